use super::*;

fn peer(name: &str) -> PeerId {
    PeerId::new(name).unwrap()
}

const SDP: &str = "v=0\r\na=fingerprint:sha-256 AB:CD\r\n";

/// Two who send, one token.
struct Bench {
    secret: RoomSecret,
    ada: PeerId,
    bob: PeerId,
}

impl Bench {
    fn new() -> Self {
        Self { secret: RoomSecret::of("token"), ada: peer("ada"), bob: peer("bob") }
    }

    fn envelope(&self, kind: SealedKind) -> Envelope<'_> {
        Envelope { from: &self.ada, to: &self.bob, kind }
    }

    fn sealed(&self) -> String {
        self.secret.seal(self.envelope(SealedKind::Offer), ConnectionId(7), 3, SDP)
    }
}

#[test]
fn what_was_sealed_opens_for_whom_it_was_meant() {
    let bench = Bench::new();
    let sealed = bench.sealed();
    assert!(!sealed.contains("fingerprint") && !sealed.contains("AB:CD"));
    let opened = bench.secret.open(bench.envelope(SealedKind::Offer), &sealed);
    assert_eq!(opened, Ok(Opened { connection: ConnectionId(7), number: 3, text: SDP.into() }));
}

#[test]
fn it_opens_for_nobody_else_and_nothing_else() {
    let bench = Bench::new();
    let (sealed, eve) = (bench.sealed(), peer("eve"));
    let offer = bench.envelope(SealedKind::Offer);
    for (what, envelope) in [
        ("from another", Envelope { from: &eve, ..offer }),
        ("for another", Envelope { to: &eve, ..offer }),
        ("sent back", Envelope { from: &bench.bob, to: &bench.ada, ..offer }),
        ("as an answer", bench.envelope(SealedKind::Answer)),
        ("as a candidate", bench.envelope(SealedKind::Candidate)),
    ] {
        assert_eq!(bench.secret.open(envelope, &sealed), Err(SealError::Forged), "{what}");
    }
    assert_eq!(RoomSecret::of("other").open(offer, &sealed), Err(SealError::Forged));
    for (part, other) in [("0000000000000007", "0000000000000008"), (".3.", ".4.")] {
        let changed = sealed.replace(part, other);
        assert_ne!(changed, sealed);
        assert_eq!(bench.secret.open(offer, &changed), Err(SealError::Forged), "{part}");
    }
}

#[test]
fn whatever_is_changed_does_not_open() {
    let bench = Bench::new();
    let sealed = bench.sealed();
    for at in 0..sealed.len() {
        let mut bytes = sealed.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        let opened = bench.secret.open(bench.envelope(SealedKind::Offer), &changed);
        assert!(opened.is_err(), "byte {at}: {changed}");
        assert!(bench.secret.open(bench.envelope(SealedKind::Offer), &sealed[..at]).is_err(), "cut at {at}");
    }
    for plain in ["", SDP, "sealed-1", "sealed-1...", "sealed-2.07.3.AAAA", "sealed-1.x.3.AAAA", "sealed-1.7.3.é"] {
        assert_eq!(bench.secret.open(bench.envelope(SealedKind::Offer), plain), Err(SealError::NotSealed), "{plain}");
    }
}

#[test]
fn one_text_is_sealed_differently_each_time_and_by_each_sender() {
    let bench = Bench::new();
    let body = |from: &PeerId, number| {
        let envelope = Envelope { from, to: &bench.bob, kind: SealedKind::Offer };
        let sealed = bench.secret.seal(envelope, ConnectionId(7), number, SDP);
        // Without the tag: that part depends on key and number alone.
        sealed.rsplit('.').next().unwrap()[..32].to_owned()
    };
    assert_ne!(body(&bench.ada, 0), body(&bench.ada, 1));
    assert_ne!(body(&bench.ada, 0), body(&peer("eve"), 0));
}

/// Peers of other versions meet by it: it must never change. (Checked against Python's `cryptography`.)
#[test]
fn the_room_and_the_seal_of_a_token() {
    let bench = Bench::new();
    assert_eq!(bench.secret.room(), "72685432fc415f8e7c56a060c9b9e764");
    let sealed = "sealed-1.0000000000000007.3./Wdmx0/gBEjourKfSsnZ3iJDqCpW3FUsc0Zxmf387Ml7Tq1GL9lriZF20S7OPJrThPs";
    assert_eq!(bench.sealed(), sealed);
    assert_ne!(RoomSecret::of("token").room(), RoomSecret::of("token ").room());
    assert_eq!(format!("{:?}", bench.secret), "RoomSecret");
}
