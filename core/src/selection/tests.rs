use super::*;
use crate::object::{ResourceVersion, Uid};

fn only(names: &[&str]) -> Namespaces {
    Namespaces::Only(names.iter().map(ToString::to_string).collect())
}

fn meta(namespace: Option<&str>, name: &str, labels: &str) -> Meta {
    let meta = Meta::new(ObjectKey::new(namespace, name), Uid::new("u"), ResourceVersion(1));
    Meta { labels: Labels::from_json(labels), ..meta }
}

fn labelled(requirements: impl IntoIterator<Item = (&'static str, Operator)>) -> Selection {
    let requirements =
        requirements.into_iter().map(|(key, operator)| Requirement { key: key.to_owned(), operator });
    Scope { labels: LabelSelector::new(requirements), ..Scope::of(only(&["shop"])) }.into()
}

fn values(values: &[&str]) -> BTreeSet<String> {
    values.iter().map(ToString::to_string).collect()
}

#[test]
fn a_namespace_selects_its_objects_only() {
    let shop = Selection::of(only(&["shop"]));
    assert!(shop.selects(&meta(Some("shop"), "a", "null")));
    assert!(!shop.selects(&meta(Some("shop-2"), "a", "null")));
    assert!(shop.selects(&meta(None, "node", "null")));
    assert!(Selection::all().selects(&meta(None, "node", "null")));
    assert!(!Selection::NOTHING.selects(&meta(None, "node", "null")));
}

#[test]
fn two_sources_of_a_kind_add_up() {
    let of = |names| Selection::of(only(names));
    assert_eq!(of(&["a"]).union(of(&["b"])), of(&["a", "b"]));
    assert_eq!(of(&["a"]).union(Selection::all()), Selection::all());
    assert_eq!(Selection::all().union(of(&["a"])), Selection::all());
    assert_eq!(of(&["a"]).union(Selection::NOTHING), of(&["a"]));
    let (red, any) = (labelled([("color", Operator::Exists)]), of(&["farm"]));
    let both = red.clone().union(any.clone());
    assert_eq!(both, any.union(red), "the order does not matter");
    assert!(both.selects(&meta(Some("shop"), "a", r#"{"color":"red"}"#)));
    assert!(both.selects(&meta(Some("farm"), "a", "null")));
    assert!(!both.selects(&meta(Some("shop"), "a", "null")));
}

#[test]
fn names_select_objects_of_these_names() {
    let milk: Selection = Scope { names: Some(values(&["milk"])), ..Scope::of(Namespaces::All) }.into();
    let shop = |name| meta(Some("shop"), name, "null");
    assert!(milk.selects(&shop("milk")) && !milk.selects(&shop("bread")));
    assert!(milk.always_selects(&shop("milk").key) && !milk.may_select(&shop("bread").key));
}

#[test]
fn labels_are_demanded_as_kubernetes_does() {
    let (red, none) = (r#"{"app":"x","color":"red"}"#, r#"{"app":"x"}"#);
    for (operator, of_red, of_none) in [
        (Operator::In(values(&["red", "blue"])), true, false),
        (Operator::In(values(&["blue"])), false, false),
        (Operator::NotIn(values(&["blue"])), true, true),
        (Operator::NotIn(values(&["red"])), false, true),
        (Operator::Exists, true, false),
        (Operator::DoesNotExist, false, true),
    ] {
        let selection = labelled([("color", operator.clone())]);
        let selects = |labels| selection.selects(&meta(Some("shop"), "a", labels));
        assert_eq!((selects(red), selects(none)), (of_red, of_none), "{operator:?}");
        assert_eq!(selects("null"), of_none, "{operator:?}: without labels");
        let key = &meta(Some("shop"), "a", red).key;
        assert!(selection.may_select(key) && !selection.always_selects(key));
    }
    let both = labelled([("app", Operator::In(values(&["x"]))), ("color", Operator::Exists)]);
    assert!(both.selects(&meta(Some("shop"), "a", red)) && !both.selects(&meta(Some("shop"), "a", none)));
    assert!(!both.selects(&meta(Some("farm"), "a", red)), "and the namespace has to be right as well");
}

#[test]
fn labels_are_read_as_they_are_written() {
    let labels = Labels::from_json(r#"{ "a/b" : "A" , "c":null, "d":""}"#);
    let expected = [("a/b", "A"), ("c", ""), ("d", "")].map(|(key, value)| (key.into(), value.into()));
    assert_eq!(labels.parse(), expected.into());
    for nothing in ["null", "{}", "[]", "7", ""] {
        assert!(Labels::from_json(nothing).parse().is_empty(), "{nothing}");
    }
}

#[test]
fn what_was_stored_before_there_were_labels_is_read() {
    // As `{namespaces: All}`, `{namespaces: Only(["shop"])}` and `{namespaces: None}` were written.
    let old: [(&[u8], Selection); 3] = [
        (&[0], Selection::all()),
        (&[1, 1, 4, b's', b'h', b'o', b'p'], Selection::of(only(&["shop"]))),
        (&[2], Selection::NOTHING),
    ];
    for (bytes, selection) in old {
        assert_eq!(postcard::from_bytes::<Selection>(bytes).as_ref(), Ok(&selection));
        assert_eq!(postcard::to_stdvec(&selection).as_deref(), Ok(bytes));
    }
    let new = labelled([("color", Operator::Exists)]).union(Selection::of(only(&["farm"])));
    let bytes = postcard::to_stdvec(&new).unwrap();
    assert_eq!(postcard::from_bytes(&bytes), Ok(new));
}
