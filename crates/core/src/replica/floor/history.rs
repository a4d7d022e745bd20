//! What was here when, and who was met: `rtc_history` and `rtc_members`. Both are local, and so is the judgement made of them: the floor is joined by whoever
//! covers it, and who does not is behind.
//!
//! Each note has only what came since the one before, so that all of them together are no larger than the vector.

use std::collections::BTreeMap;

use rtc_battery_proto::{Floor, ReplicaId, VersionVector};
use rusqlite::{Connection, params};

use crate::planted::{Bug, planted};
use crate::replica::error::StorageError;

/// Notes in one retention time.
const NOTES: u64 = 30;

/// Replicas that are waited for, at most; of more those that were met last.
const MAX_MEMBERS: usize = 4096;

/// Later than anything, as SQLite's integers go.
const ALL_TIME_MS: u64 = u64::MAX >> 1;

/// A replica that was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    met_ms: u64,
    /// When that was here which it had all of when it was last met.
    in_step_ms: u64,
}

/// A member, and what of it is stored.
#[derive(Debug, Clone, Copy)]
struct Known {
    member: Member,
    stored: Option<Member>,
}

impl Known {
    /// Whether what is stored is so old that it has to be stored again.
    fn is_due(&self, step_ms: u64) -> bool {
        let is_old = |stored: Member| {
            let Member { met_ms, in_step_ms } = self.member;
            met_ms.abs_diff(stored.met_ms) >= step_ms || in_step_ms.abs_diff(stored.in_step_ms) >= step_ms
        };
        self.stored.is_none_or(is_old)
    }
}

/// Who was met, and when to look next. Times are of the wall clock, in milliseconds since 1970.
#[derive(Debug, Default)]
pub(crate) struct History {
    members: BTreeMap<ReplicaId, Known>,
    /// What was here when it was last looked, or stored.
    noted: VersionVector,
    looked_ms: Option<u64>,
}

impl History {
    pub(crate) fn load(connection: &Connection, floor: &Floor) -> Result<Self, StorageError> {
        let mut select = connection.prepare("SELECT node, met, in_step FROM rtc_members")?;
        let rows = select.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, Member { met_ms: row.get(1)?, in_step_ms: row.get(2)? }))
        })?;
        let mut members = BTreeMap::new();
        for row in rows {
            let (node, member) = row?;
            let node = ReplicaId::new(&node).map_err(|_| StorageError::Corrupt("rtc_members.node"))?;
            members.insert(node, Known { member, stored: Some(member) });
        }
        let mut noted = floor.vector.clone();
        noted.merge(&up_to(connection, ALL_TIME_MS)?);
        Ok(Self { members, noted, looked_ms: None })
    }

    /// What was here when it was last looked.
    pub(crate) fn noted(&self) -> &VersionVector {
        &self.noted
    }

    /// A replica is here. `in_step`: it has all that was here when it was last looked.
    pub(crate) fn note_met(&mut self, node: &ReplicaId, in_step: bool, wall_ms: u64) {
        let new = || Known { member: Member { met_ms: wall_ms, in_step_ms: 0 }, stored: None };
        let Known { member, .. } = self.members.entry(node.clone()).or_insert_with(new);
        member.met_ms = wall_ms;
        if let Some(looked_ms) = self.looked_ms.filter(|_| in_step) {
            member.in_step_ms = looked_ms;
        }
        if self.members.len() > MAX_MEMBERS
            && let Some(oldest) =
                self.members.iter().min_by_key(|(_, known)| known.member.met_ms).map(|(node, _)| node.clone())
        {
            self.members.remove(&oldest);
        }
    }

    /// When to look next. At once where the clock was put back, or where somebody was met of whom that is not stored: there may be no later.
    pub(crate) fn due_ms(&self, retention_ms: u64, wall_ms: u64) -> u64 {
        let step_ms = step_ms(retention_ms);
        let is_stored = || self.members.values().all(|known| !known.is_due(step_ms));
        match self.looked_ms {
            Some(looked_ms) if looked_ms <= wall_ms && is_stored() => looked_ms + step_ms,
            _ => wall_ms,
        }
    }

    /// Something has come that may be below the floor: it is due at once.
    pub(crate) fn look_again(&mut self) {
        self.looked_ms = None;
    }

    /// Notes what is here and was not when it was last noted. Tells whether that is anything.
    pub(crate) fn note(
        &mut self,
        connection: &Connection,
        vector: &VersionVector,
        floor: &Floor,
        wall_ms: u64,
    ) -> Result<bool, StorageError> {
        // Times that are not there yet were noted by a clock that was wrong.
        connection.prepare_cached("DELETE FROM rtc_history WHERE at > ?1")?.execute([wall_ms])?;
        let mut noted = floor.vector.clone();
        noted.merge(&up_to(connection, wall_ms)?);
        (self.noted, self.looked_ms) = (vector.clone(), Some(wall_ms));
        let news = vector.minus(&noted);
        if news.is_empty() {
            return Ok(false);
        }
        let news = serde_json::to_string(&news).map_err(|_| StorageError::Corrupt("a version vector"))?;
        let insert = "INSERT INTO rtc_history (at, news) VALUES (?1, ?2)";
        connection.prepare_cached(insert)?.execute(params![wall_ms, news])?;
        Ok(true)
    }

    /// Stores who was met, and forgets who was not for a retention time.
    pub(crate) fn save_members(
        &mut self,
        connection: &Connection,
        retention_ms: u64,
        wall_ms: u64,
    ) -> Result<bool, StorageError> {
        self.members.retain(|_, known| known.member.met_ms.saturating_add(retention_ms) > wall_ms);
        let forget = "DELETE FROM rtc_members WHERE met + ?1 <= ?2";
        let mut changed = connection.prepare_cached(forget)?.execute(params![retention_ms, wall_ms])?;
        let save = "INSERT INTO rtc_members VALUES (?1, ?2, ?3)
                    ON CONFLICT (node) DO UPDATE SET met = ?2, in_step = ?3 WHERE met <> ?2 OR in_step <> ?3";
        let mut save = connection.prepare_cached(save)?;
        for (node, Known { member, stored }) in &mut self.members {
            changed += save.execute(params![node.as_str(), member.met_ms, member.in_step_ms])?;
            *stored = Some(*member);
        }
        Ok(changed > 0)
    }

    /// What was here at this time all members have, and it is a retention time ago.
    pub(crate) fn limit_ms(&self, retention_ms: u64, wall_ms: u64) -> u64 {
        if planted(Bug::ForgottenEarly) {
            return wall_ms;
        }
        let in_step = self.members.values().map(|known| known.member.in_step_ms);
        in_step.chain([wall_ms.saturating_sub(retention_ms)]).min().unwrap_or_default()
    }
}

/// How much time there is between two notes.
fn step_ms(retention_ms: u64) -> u64 {
    (retention_ms / NOTES).max(1)
}

/// What was noted up to a time.
pub(crate) fn up_to(connection: &Connection, limit_ms: u64) -> Result<VersionVector, StorageError> {
    let mut vector = VersionVector::default();
    let mut select = connection.prepare_cached("SELECT news FROM rtc_history WHERE at <= ?1")?;
    let mut rows = select.query([limit_ms])?;
    while let Some(row) = rows.next()? {
        let news: String = row.get(0)?;
        vector.merge(&serde_json::from_str(&news).map_err(|_| StorageError::Corrupt("rtc_history.news"))?);
    }
    Ok(vector)
}

/// Forgets the notes up to a time.
pub(crate) fn forget(connection: &Connection, limit_ms: u64) -> Result<(), StorageError> {
    connection.prepare_cached("DELETE FROM rtc_history WHERE at <= ?1")?.execute([limit_ms])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> ReplicaId {
        ReplicaId::new(name).unwrap()
    }

    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        let tables = "CREATE TABLE rtc_members (node PRIMARY KEY, met, in_step); CREATE TABLE rtc_history (n INTEGER PRIMARY KEY, at, news)";
        connection.execute_batch(tables).unwrap();
        connection
    }

    fn vector(json: &str) -> VersionVector {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn who_was_met_and_was_not_in_step_is_waited_for_until_it_is_long_gone() {
        let (connection, mut history) = (database(), History::default());
        let look = |history: &mut History, at| history.note(&connection, &vector("{}"), &Floor::default(), at).unwrap();
        assert_eq!(history.limit_ms(1000, 5000), 4000);
        look(&mut history, 3000);
        history.note_met(&node("behind"), true, 3500);
        look(&mut history, 4500);
        history.note_met(&node("in-step"), true, 4900);
        history.note_met(&node("behind"), false, 4800);
        assert_eq!(history.limit_ms(1000, 5000), 3000, "it had what was here when it was looked last");
        assert!(history.save_members(&connection, 1000, 5000).unwrap());
        assert!(!history.save_members(&connection, 1000, 5000).unwrap(), "nothing is written twice");
        let members = |history: &History| history.members.values().map(|known| known.member).collect::<Vec<_>>();
        assert_eq!(members(&History::load(&connection, &Floor::default()).unwrap()), members(&history));
        assert!(history.save_members(&connection, 1000, 5850).unwrap());
        assert_eq!(history.limit_ms(1000, 5850), 4500, "who was not met for a retention time is not waited for");
    }

    #[test]
    fn notes_have_only_what_is_new() {
        let (connection, mut history) = (database(), History::default());
        let floor = Floor { vector: vector(r#"{"a":[[1,3]]}"#), ..Floor::default() };
        let mut note = |json: &str, at| history.note(&connection, &vector(json), &floor, at).unwrap();
        assert!(!note(r#"{"a":[[1,3]]}"#, 10));
        assert!(note(r#"{"a":[[1,5]]}"#, 20) && !note(r#"{"a":[[1,5]]}"#, 30));
        assert!(note(r#"{"a":[[1,6]],"b":[[2,2]]}"#, 40));
        let up_to = |limit| up_to(&connection, limit).unwrap();
        assert_eq!(up_to(19), VersionVector::default());
        assert_eq!(up_to(39), vector(r#"{"a":[[4,5]]}"#));
        assert_eq!(up_to(40), vector(r#"{"a":[[4,6]],"b":[[2,2]]}"#));
        assert_eq!(*History::load(&connection, &floor).unwrap().noted(), vector(r#"{"a":[[1,6]],"b":[[2,2]]}"#));
        // A clock that was ahead and is set right.
        assert!(note(r#"{"a":[[1,6]],"b":[[2,2]]}"#, 25));
        assert_eq!(up_to(25), vector(r#"{"a":[[4,6]],"b":[[2,2]]}"#));
    }

    #[test]
    fn members_are_bounded_and_those_met_last_stay() {
        let mut history = History::default();
        for n in 0..MAX_MEMBERS + 10 {
            history.note_met(&node(&format!("n{n}")), false, n as u64);
        }
        assert_eq!(history.members.len(), MAX_MEMBERS);
        assert!(!history.members.contains_key(&node("n9")) && history.members.contains_key(&node("n10")));
    }

    #[test]
    fn a_clock_that_was_put_back_is_no_reason_to_wait() {
        let mut history = History::default();
        assert_eq!(history.due_ms(3000, 50), 50);
        history.looked_ms = Some(5000);
        assert_eq!((history.due_ms(3000, 5000), history.due_ms(3000, 4000)), (5100, 4000));
    }

    #[test]
    fn who_was_met_is_stored_at_once_and_then_no_more_often_than_it_is_looked() {
        let (connection, mut history) = (database(), History::default());
        history.looked_ms = Some(5000);
        history.note_met(&node("b"), true, 5001);
        assert_eq!(history.due_ms(3000, 5001), 5001);
        history.save_members(&connection, 3000, 5001).unwrap();
        history.note_met(&node("b"), true, 5099);
        assert_eq!(history.due_ms(3000, 5099), 5100);
    }
}
