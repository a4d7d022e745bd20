//! Seeds that found something, and that a seed is one course of events. Thousands of others run in `cargo xtask test`.

use rtc_battery_sim::room;
use rtc_battery_sim::trace::Trace;

fn holds(seed: u64) {
    let outcome = room::run(seed, Trace::default());
    assert_eq!(outcome.violation, None, "seed {seed}");
    assert!(outcome.statements > 0 && outcome.operations > 0 && outcome.virtual_ms > 60_000);
}

/// Two devices created one table; a newcomer refused what was left of the older CREATE TABLE.
#[test]
fn a_table_that_was_created_twice() {
    holds(17);
}

/// What a log tells of a transaction after the rest of it was overwritten was passed on as the whole.
#[test]
fn a_transaction_that_was_overwritten_in_part() {
    holds(343);
}

/// After a sleep, a report about the old socket was taken for one about the new one.
#[test]
fn a_socket_that_was_made_anew() {
    holds(549);
    holds(1504);
}

/// Who was taken for plain and answered so kept what had come when the other said hello in the middle of it.
#[test]
fn an_answer_that_was_broken_off() {
    holds(633);
}

/// What had been forgotten came back: with an answer that was read after the floor had risen, as contents of another under our own dots, with floors joined in one step,
/// and where two came to have one floor after they had compared.
#[test]
fn what_was_forgotten_differently() {
    [527, 1779, 1831, 53_791].into_iter().for_each(holds);
}

#[test]
fn a_seed_is_one_course_of_events() {
    let (one, other) = (room::run(3, Trace::on()), room::run(3, Trace::on()));
    assert!(one.trace.lines().len() > 500, "it has told what happened");
    assert_eq!(one.trace.lines(), other.trace.lines());
    assert_ne!(one.trace.lines(), room::run(4, Trace::on()).trace.lines());
}
