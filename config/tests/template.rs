//! Whatever somebody writes as a template: it is taken apart or refused, and prints as it was written.

use proptest::prelude::*;
use tidings_config::duration::Duration;
use tidings_config::field_error::FieldErrors;
use tidings_config::sink::http::HttpSettings;
use tidings_config::sink::kafka::KafkaSettings;
use tidings_config::sink::nats::NatsSettings;
use tidings_config::sink::rabbitmq::RabbitmqSettings;
use tidings_config::sink::template::{Part, Placeholder, Template};

/// Text with more braces and placeholders in it than chance brings.
fn any_text() -> impl Strategy<Value = String> {
    let known = proptest::sample::select(Placeholder::ALL.as_slice())
        .prop_map(|known| format!("{{{}}}", known.as_str()));
    let piece = prop_oneof![
        3 => known,
        2 => "[a-z0-9._/-]{1,8}",
        1 => proptest::sample::select(vec!["{", "}", "{}", "{nmae}", "..", "/../", "%2e", "\0", "\r\n", "*", ">", " ", "$", "ü"])
            .prop_map(str::to_owned),
        1 => ".{0,5}",
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

/// The template with every value replaced by `value`.
fn filled(template: &Template, value: &str) -> String {
    let text = |part: &Part| match part {
        Part::Literal(literal) => literal.to_string(),
        Part::Value(_) => value.to_owned(),
    };
    template.parts().iter().map(text).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_taken_apart_prints_as_it_was_written(text in any_text()) {
        if let Ok(template) = Template::parse(&text) {
            prop_assert_eq!(template.to_string(), text.clone());
            let again = Template::parse(&template.to_string());
            prop_assert_eq!(again.as_ref(), Ok(&template));
            for part in template.parts() {
                if let Part::Literal(literal) = part {
                    prop_assert!(!literal.is_empty() && !literal.contains(['{', '}']), "{template:?}");
                }
            }
            // Only what was written is there beside the values.
            let values = template.parts().iter().filter(|part| matches!(part, Part::Value(_))).count();
            let literals: usize = template.parts().iter().map(|part| match part {
                Part::Literal(literal) => literal.len(),
                Part::Value(_) => 0,
            }).sum();
            prop_assert_eq!(filled(&template, "value").len(), literals + values * "value".len());
        } else {
            prop_assert!(text.contains(['{', '}']), "{text:?} has no brace, and is refused");
        }
    }

    #[test]
    fn a_subject_has_no_wildcard_and_no_empty_part_whatever_fills_it(text in any_text(), value in "[a-z0-9_%-]{1,9}") {
        let settings = NatsSettings { subject: text, ..NatsSettings::default() };
        if let Some(address) = settings.address("spec.sink.nats", &mut FieldErrors::new()) {
            let subject = filled(&address.subject, &value);
            prop_assert!(subject.bytes().all(|byte| byte.is_ascii_graphic()), "{subject:?}");
            prop_assert!(subject.split('.').all(|part| !part.is_empty() && part != "*" && part != ">"), "{subject:?}");
        }
    }

    #[test]
    fn a_path_stays_below_the_url_whatever_fills_it(text in any_text(), value in "[a-z0-9]([a-z0-9.%-]{0,7}[a-z0-9])?") {
        let settings = HttpSettings { path: text, ..HttpSettings::default() };
        if let Some(address) = settings.address("spec.sink.http", &mut FieldErrors::new()) {
            let base = "https://receiver/below/";
            let whole = format!("{base}{}", filled(&address.path, &value));
            let url: url::Url = whole.parse().unwrap();
            prop_assert!(url.as_str().starts_with(base), "{whole} is {url}");
            prop_assert!(url.query().is_none() && url.fragment().is_none(), "{whole}");
        }
    }

    #[test]
    fn a_topic_has_only_what_topics_have_whatever_fills_it(text in any_text()) {
        let settings = KafkaSettings { topic: text.clone(), key: Some(text), ..KafkaSettings::default() };
        if let Some(address) = settings.address("spec.sink.kafka", &mut FieldErrors::new()) {
            let topic = filled(&address.topic, "v");
            prop_assert!((1..=249).contains(&topic.len()) && topic != "." && topic != "..", "{topic:?}");
            prop_assert!(topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)), "{topic:?}");
        }
    }

    #[test]
    fn a_routing_key_has_no_control_characters(text in any_text()) {
        let settings = RabbitmqSettings { routing_key: text.clone(), exchange: text, ..RabbitmqSettings::default() };
        if let Some(address) = settings.address("spec.sink.rabbitmq", &mut FieldErrors::new()) {
            prop_assert!(!filled(&address.routing_key, "v").chars().any(char::is_control));
            prop_assert!(!filled(&address.exchange, "v").chars().any(char::is_control));
        }
    }

    #[test]
    fn a_duration_that_is_read_prints_as_one_that_reads_the_same(text in "[0-9]{0,12}[a-z ]{0,6}[0-9]{0,3}[a-z.-]{0,3}") {
        if let Ok(duration) = text.parse::<Duration>() {
            prop_assert_eq!(duration.to_string().parse::<Duration>().ok(), Some(duration), "{}", text);
        }
    }
}
