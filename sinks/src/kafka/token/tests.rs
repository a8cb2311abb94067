use super::*;

fn answered(status: u16, body: &str) -> Result<(String, Duration), Unusable> {
    let token = read(StatusCode::from_u16(status).unwrap(), body.as_bytes(), "tidings")?;
    assert_eq!(token.principal, "tidings");
    Ok((token.text.to_string(), token.lifetime))
}

#[test]
fn a_token_holds_as_long_as_the_server_says() {
    let held = |body: &str| answered(200, body).unwrap();
    let hour = held(r#"{"access_token": "abc", "token_type": "Bearer", "expires_in": 3600}"#);
    assert_eq!(hour, ("abc".to_owned(), Duration::from_hours(1)));
    assert_eq!(held(r#"{"access_token": "abc"}"#).1, LIFETIME);
    // librdkafka counts in microseconds.
    let long =
        read(StatusCode::OK, br#"{"access_token": "a", "expires_in": 18446744073709551615}"#, "x").unwrap();
    assert!(long.expires_millis < i64::MAX / 1_000);
}

#[test]
fn what_a_server_says_is_repeated_only_where_it_is_a_code() {
    let refused = |status, body: &str| answered(status, body).unwrap_err();
    let code = |code: &str| Unusable::Refused(code.to_owned());
    assert_eq!(refused(401, r#"{"error": "invalid_client"}"#), code("invalid_client"));
    assert_eq!(refused(400, r#"{"error": "<b>hunter2\n</b>"}"#), code("400 Bad Request"));
    assert_eq!(refused(403, "<html>hunter2</html>"), code("403 Forbidden"));
    for (status, body) in [(503, ""), (302, ""), (200, "{}"), (200, "hunter2"), (204, "")] {
        match refused(status, body) {
            Unusable::Broken(why) => assert!(!why.contains("hunter2"), "{why}"),
            other @ Unusable::Refused(_) => panic!("{status}: {other:?}"),
        }
    }
}

#[test]
fn what_is_asked_can_have_any_characters() {
    assert_eq!(
        form("a b", "p&=%\u{e4}", Some("x y")),
        "grant_type=client_credentials&client_id=a+b&client_secret=p%26%3D%25%C3%A4&scope=x+y"
    );
    assert_eq!(form("a", "b", None), "grant_type=client_credentials&client_id=a&client_secret=b");
}
