//! What is asked about one name, and what follows from the answers.

use super::super::tests::object;
use super::search::{Answer, Moment, Search};
use super::*;
use crate::object::Uid;

/// What the server would say: the moments of a name, oldest first; `None` where a life ended.
type History = [(u64, Option<&'static str>)];

const BASE: u64 = 10;

fn base() -> (Uid, ResourceVersion) {
    (Uid::new("u1"), ResourceVersion(BASE))
}

fn at(history: &History, compacted: u64, question: Question) -> Answer {
    if question.at.0 < compacted {
        return Answer::Compacted;
    }
    match history.iter().rev().find(|(version, _)| *version <= question.at.0) {
        Some((version, Some(uid))) => {
            Answer::Present(object("a", uid, question.died.map_or(*version, |died| died.0)))
        }
        _ => Answer::Absent,
    }
}

/// What is found, as `uid@version`, with `-` before the end of a life, and how many questions that took.
fn found(mut search: Search, history: &History, compacted: u64) -> (Vec<String>, bool, usize) {
    let mut questions = 0;
    while let Some(question) = search.question() {
        search = search.answer(at(history, compacted, question));
        questions += 1;
    }
    let outcome = search.finish();
    let line = |moment: &Moment| {
        let meta = &moment.object().meta;
        let end = if matches!(moment, Moment::Deleted(_)) { "-" } else { "" };
        format!("{end}{}@{}", meta.uid, meta.resource_version)
    };
    (outcome.moments.iter().map(line).collect(), outcome.whole, questions)
}

fn of_present(uid: &str, version: u64) -> Search {
    Search::of_present(Some(base()), ResourceVersion(20), &object("a", uid, version))
}

fn of_gone(until: u64) -> Search {
    Search::of_gone(base(), ResourceVersion(20), ResourceVersion(until))
}

#[test]
fn each_missed_version_takes_one_question() {
    let history = [(BASE, Some("u1")), (30, Some("u1")), (31, Some("u1")), (50, Some("u1"))];
    let expected = ["u1@30", "u1@31", "u1@50"].map(str::to_owned).to_vec();
    assert_eq!(found(of_present("u1", 50), &history, 0), (expected, true, 3));
}

#[test]
fn what_follows_directly_on_what_was_told_takes_no_question() {
    assert_eq!(found(of_present("u1", 21), &[], 0), (vec!["u1@21".to_owned()], true, 0));
}

#[test]
fn an_object_that_is_absent_before_a_version_was_created_at_it() {
    let search = Search::of_present(None, ResourceVersion(20), &object("a", "u2", 31));
    let history = [(30, Some("u2")), (31, Some("u2"))];
    let expected = ["u2@30", "u2@31"].map(str::to_owned).to_vec();
    assert_eq!(found(search, &history, 0), (expected, true, 2));
}

#[test]
fn the_end_of_a_life_is_found_exactly_and_what_came_before_it() {
    let history = [(BASE, Some("u1")), (25, Some("u1")), (700, Some("u1")), (777, None)];
    let (moments, whole, questions) = found(of_gone(1044), &history, 0);
    assert_eq!((moments, whole), (["u1@25", "u1@700", "-u1@777"].map(str::to_owned).to_vec(), true));
    // Ten halve 1,024 versions, one brings the content, and two walk back.
    assert_eq!(questions, 13);
}

#[test]
fn a_name_that_was_created_again_has_both_lives() {
    let history = [(BASE, Some("u1")), (40, None), (60, Some("u2")), (61, Some("u2"))];
    let expected = ["-u1@40", "u2@60", "u2@61"].map(str::to_owned).to_vec();
    let (moments, whole, _) = found(of_present("u2", 61), &history, 0);
    assert_eq!((moments, whole), (expected, true));
}

#[test]
fn what_is_compacted_is_missing_before_the_oldest_that_is_found() {
    let history = [(BASE, Some("u1")), (30, Some("u1")), (31, Some("u1")), (50, Some("u1"))];
    let expected = ["u1@31", "u1@50"].map(str::to_owned).to_vec();
    assert_eq!(found(of_present("u1", 50), &history, 31), (expected, false, 2));
    let gone = [(BASE, Some("u1")), (30, None)];
    assert_eq!(found(of_gone(100), &gone, 60).0, Vec::<String>::new());
    // What is asked first, at 60, is forgotten, and the end is after that.
    let later = [(BASE, Some("u1")), (70, None)];
    assert_eq!(found(of_gone(100), &later, 65).0.last(), Some(&"-u1@70".to_owned()));
}

#[test]
fn an_answer_that_cannot_be_ends_the_search_and_marks() {
    let search = of_present("u1", 50).answer(Answer::Present(object("a", "u9", 40)));
    assert_eq!(search.question(), None);
    assert!(!search.finish().whole);
}
