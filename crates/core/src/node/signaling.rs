//! The session with the signaling server: one socket at a time, joined under our name, made anew with backoff whenever it is lost.
//!
//! With the name goes a resume key. A socket of ours that died without a word still has our name at the server; whoever brings the key
//! takes its place at once, and the others notice nothing. (A server of the specification ignores the key.)
//!
//! Invariant: an outage is told once, however many attempts fail in it. Offline is a normal state: nothing here gives up, and nothing here
//! closes a link. It reads what the server says and does not know what peers and links make of it.

use rtc_battery_proto::PeerId;
use rtc_battery_proto::signaling::{ClientMessage, DecodeError, ResumeKey, ServerMessage, code};

use super::io::{Effect, ErrorCode, Event};
use super::outputs::{Outputs, excerpt};
use super::random::{Backoff, Random};

/// A socket that did not open by then is given up, in milliseconds.
const OPEN_TIMEOUT_MS: u64 = 30_000;

/// A session that lasted this long was a good one: the next outage starts with the shortest wait again. In milliseconds.
const STABLE_MS: u64 = 10_000;

/// At most one event about what the server says in this time, in milliseconds.
const COMPLAIN_EVERY_MS: u64 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Off,
    Opening { give_up_at_ms: u64 },
    Open { joined_at_ms: Option<u64> },
    Waiting { retry_at_ms: u64 },
}

#[derive(Debug)]
pub(super) struct Signaling {
    url: String,
    resume: Option<ResumeKey>,
    state: State,
    backoff: Backoff,
    outage_told: bool,
    complained_at_ms: Option<u64>,
}

impl Signaling {
    pub(super) fn new(base_url: &str, token: &str, resume: Option<ResumeKey>) -> Self {
        Self {
            url: room_url(base_url, token),
            resume,
            state: State::Off,
            backoff: Backoff::default(),
            outage_told: false,
            complained_at_ms: None,
        }
    }

    pub(super) fn start(&mut self, now_ms: u64, outputs: &mut Outputs) {
        if self.state == State::Off {
            self.open(now_ms, outputs);
        }
    }

    pub(super) fn stop(&mut self, outputs: &mut Outputs) {
        self.close_socket(outputs);
        self.state = State::Off;
        self.backoff.reset();
        self.outage_told = false;
    }

    /// Makes the socket anew at once: after a sleep it may be dead without a word.
    pub(super) fn reopen(&mut self, now_ms: u64, outputs: &mut Outputs) {
        if self.state != State::Off {
            self.close_socket(outputs);
            self.open(now_ms, outputs);
        }
    }

    pub(super) fn handle_opened(&mut self, me: &PeerId, outputs: &mut Outputs) {
        if matches!(self.state, State::Opening { .. }) {
            self.state = State::Open { joined_at_ms: None };
            let join = ClientMessage::Join { peer_id: me.clone(), resume: self.resume.clone(), sample: true };
            self.send(&join, outputs);
        }
    }

    pub(super) fn handle_closed(&mut self, reason: &str, now_ms: u64, random: &mut Random, outputs: &mut Outputs) {
        if matches!(self.state, State::Opening { .. } | State::Open { .. }) {
            self.lose(ErrorCode::SignalingUnreachable, reason, now_ms, random, outputs);
        }
    }

    /// Reads what the server said; what only concerns the session itself is dealt with here.
    pub(super) fn handle_text(
        &mut self,
        text: &str,
        now_ms: u64,
        random: &mut Random,
        outputs: &mut Outputs,
    ) -> Option<ServerMessage> {
        let State::Open { joined_at_ms } = self.state else { return None };
        match ServerMessage::decode(text) {
            Ok(ServerMessage::Error { code, message }) => {
                self.handle_error(&code, &message, now_ms, random, outputs);
                None
            }
            Ok(message) => {
                if matches!(message, ServerMessage::Peers { .. }) && joined_at_ms.is_none() {
                    self.state = State::Open { joined_at_ms: Some(now_ms) };
                    self.outage_told = false;
                    outputs.event(Event::Online);
                }
                Some(message)
            }
            Err(DecodeError::UnknownType(_)) => None,
            Err(error) => {
                let message = format!("The signaling server sent what is no message ({error}); it was ignored.");
                self.complain(message, now_ms, outputs);
                None
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, now_ms: u64, random: &mut Random, outputs: &mut Outputs) {
        match self.state {
            State::Opening { give_up_at_ms } if give_up_at_ms <= now_ms => {
                outputs.effect(Effect::CloseSignaling);
                self.lose(ErrorCode::SignalingUnreachable, "it does not answer", now_ms, random, outputs);
            }
            State::Waiting { retry_at_ms } if retry_at_ms <= now_ms => self.open(now_ms, outputs),
            _ => {}
        }
    }

    pub(super) fn wake_at_ms(&self) -> Option<u64> {
        match self.state {
            State::Opening { give_up_at_ms } => Some(give_up_at_ms),
            State::Waiting { retry_at_ms } => Some(retry_at_ms),
            State::Off | State::Open { .. } => None,
        }
    }

    /// Whether the server has taken us in, so that what we send reaches others.
    pub(super) fn is_joined(&self) -> bool {
        matches!(self.state, State::Open { joined_at_ms: Some(_) })
    }

    /// Sends, if the socket is open. What is said to a closed one is lost: links that were being made are made anew on rejoin.
    pub(super) fn send(&self, message: &ClientMessage, outputs: &mut Outputs) {
        if matches!(self.state, State::Open { .. }) {
            outputs.effect(Effect::SendSignaling { text: message.encode() });
        }
    }

    /// Tells of something odd that came through the server, unless something was told just before.
    pub(super) fn complain(&mut self, message: String, now_ms: u64, outputs: &mut Outputs) {
        if self.complained_at_ms.is_none_or(|last| now_ms.saturating_sub(last) >= COMPLAIN_EVERY_MS) {
            self.complained_at_ms = Some(now_ms);
            outputs.error(ErrorCode::Signaling, message, None);
        }
    }

    fn handle_error(&mut self, word: &str, message: &str, now_ms: u64, random: &mut Random, outputs: &mut Outputs) {
        match word {
            // Somebody left while we were talking to them.
            code::UNKNOWN_PEER => {}
            // Nothing can be done on this socket; later the name or a place may be free.
            code::PEER_ID_IN_USE | code::ROOM_FULL => {
                outputs.effect(Effect::CloseSignaling);
                self.lose(ErrorCode::Signaling, message, now_ms, random, outputs);
            }
            _ => self.complain(format!("The signaling server says: {}", excerpt(message)), now_ms, outputs),
        }
    }

    fn open(&mut self, now_ms: u64, outputs: &mut Outputs) {
        self.state = State::Opening { give_up_at_ms: now_ms + OPEN_TIMEOUT_MS };
        outputs.effect(Effect::OpenSignaling { url: self.url.clone() });
    }

    fn close_socket(&self, outputs: &mut Outputs) {
        if matches!(self.state, State::Opening { .. } | State::Open { .. }) {
            outputs.effect(Effect::CloseSignaling);
        }
    }

    fn lose(&mut self, error: ErrorCode, reason: &str, now_ms: u64, random: &mut Random, outputs: &mut Outputs) {
        let stable = |joined_at_ms: Option<u64>| joined_at_ms.is_some_and(|at| now_ms.saturating_sub(at) >= STABLE_MS);
        if matches!(self.state, State::Open { joined_at_ms } if stable(joined_at_ms)) {
            self.backoff.reset();
        }
        self.state = State::Waiting { retry_at_ms: now_ms + self.backoff.next_ms(random) };
        if !std::mem::replace(&mut self.outage_told, true) {
            let reason = excerpt(reason);
            let message = match error {
                ErrorCode::SignalingUnreachable => {
                    format!(
                        "The signaling server cannot be reached ({reason}). Connected peers stay; it is tried again."
                    )
                }
                _ => format!("The signaling server refused: {reason}. It is tried again."),
            };
            outputs.error(error, message, None);
        }
    }
}

/// The endpoint with the token in its query.
fn room_url(base_url: &str, token: &str) -> String {
    let joint = match base_url.split_once('?') {
        None => "?",
        Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    };
    let mut url = format!("{base_url}{joint}token=");
    for byte in token.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::super::io::Output;
    use super::*;

    struct Bench {
        signaling: Signaling,
        random: Random,
        outputs: Outputs,
    }

    impl Bench {
        fn new() -> Self {
            let mut bench = Self {
                signaling: Signaling::new("wss://host/signal", "t", None),
                random: Random::new([0; 32]),
                outputs: Outputs::default(),
            };
            bench.signaling.start(0, &mut bench.outputs);
            bench
        }

        fn closed(&mut self, now_ms: u64) {
            self.signaling.handle_closed("gone", now_ms, &mut self.random, &mut self.outputs);
        }

        fn joined(&mut self, now_ms: u64) {
            self.signaling.handle_opened(&PeerId::new("me").unwrap(), &mut self.outputs);
            self.text(r#"{"type":"peers","peerIds":[]}"#, now_ms);
        }

        fn text(&mut self, text: &str, now_ms: u64) -> Option<ServerMessage> {
            self.signaling.handle_text(text, now_ms, &mut self.random, &mut self.outputs)
        }

        /// Lets time pass until the session opens a socket; when that is.
        fn retried_at(&mut self) -> u64 {
            let at = self.signaling.wake_at_ms().unwrap();
            self.signaling.handle_timeout(at, &mut self.random, &mut self.outputs);
            assert!(matches!(self.signaling.state, State::Opening { .. }));
            at
        }

        fn errors(&mut self) -> Vec<ErrorCode> {
            let mut codes = Vec::new();
            while let Some(output) = self.outputs.pop() {
                if let Output::Event(Event::Error { code, .. }) = output {
                    codes.push(code);
                }
            }
            codes
        }
    }

    #[test]
    fn urls_carry_any_token() {
        for (base, token, url) in [
            ("ws://h/signal", "aZ09-._~", "ws://h/signal?token=aZ09-._~"),
            ("ws://h/signal?a=b", "x", "ws://h/signal?a=b&token=x"),
            ("ws://h/signal?", "x", "ws://h/signal?token=x"),
            ("ws://h/", "a/b &#é%", "ws://h/?token=a%2Fb%20%26%23%C3%A9%25"),
            ("ws://h/", "", "ws://h/?token="),
        ] {
            assert_eq!(room_url(base, token), url);
        }
    }

    #[test]
    fn an_outage_is_told_once() {
        let mut bench = Bench::new();
        let mut now = 0;
        for _ in 0..20 {
            bench.closed(now);
            now = bench.retried_at();
        }
        assert_eq!(bench.errors(), [ErrorCode::SignalingUnreachable]);
        bench.joined(now);
        bench.closed(now);
        assert_eq!(bench.errors(), [ErrorCode::SignalingUnreachable]);
    }

    #[test]
    fn a_server_that_drops_everyone_at_once_is_not_hammered() {
        let mut bench = Bench::new();
        let (mut now, mut attempts) = (0, 0);
        while now < 600_000 {
            bench.joined(now);
            bench.closed(now);
            now = bench.retried_at();
            attempts += 1;
        }
        assert!(attempts < 80, "{attempts} attempts in ten minutes");
        bench.joined(now);
        bench.closed(now + STABLE_MS);
        assert!(bench.retried_at() <= now + STABLE_MS + 1_000);
    }

    #[test]
    fn a_socket_that_never_opens_is_given_up() {
        let mut bench = Bench::new();
        bench.signaling.handle_timeout(OPEN_TIMEOUT_MS, &mut bench.random, &mut bench.outputs);
        assert_eq!(bench.errors(), [ErrorCode::SignalingUnreachable]);
        // Late word of a socket that was given up.
        bench.signaling.handle_opened(&PeerId::new("me").unwrap(), &mut bench.outputs);
        assert!(!bench.signaling.is_joined() && bench.outputs.pop().is_none());
    }

    #[test]
    fn a_name_in_use_is_tried_again_and_nonsense_is_told_seldom() {
        let mut bench = Bench::new();
        bench.joined(0);
        for text in ["", "[]", r#"{"type":"offer"}"#, r#"{"type":"error","code":"x","message":"y"}"#] {
            assert!(bench.text(text, 1).is_none());
        }
        assert!(bench.text(r#"{"type":"error","code":"unknown-peer","message":"no such"}"#, 20_000).is_none());
        assert!(bench.text(r#"{"type":"later"}"#, 20_000).is_none());
        assert_eq!(bench.errors(), [ErrorCode::Signaling]);
        bench.text(r#"{"type":"error","code":"peer-id-in-use","message":"taken"}"#, 20_000);
        assert_eq!(bench.errors(), [ErrorCode::Signaling]);
        bench.retried_at();
    }
}
