//! Whom to be linked with: everybody while the room is small, a few of them while it is large. Pure.
//!
//! In a full mesh each of n peers keeps n - 1 links and tells each operation n - 1 times. Beyond `full` peers a room is a random graph instead:
//! everyone dials `dial` others and takes up to `accept`; who is full gives up its best-connected neighbour for a newcomer, if that one has
//! more than `dial` links and so need not dial again. Simulated with 1,000 peers such graphs have a mean degree below 8, at most 6
//! hops, and do not fall apart. Two that formed while nobody could reach the other side grow together, since links are rotated, slowly.
//!
//! How many there are, and how many links a neighbour has, is what others say. Who says it wrongly keeps or loses its own link and no
//! other: a full node rotates without regard to what is said. The rules do not know links, sockets or names.

use super::bucket::Bucket;
use super::io::LinkId;
use super::random::Random;

/// A link is exchanged for another so seldom, in milliseconds: a room of 30 that was cut in two has a new link between its halves within a minute.
const ROTATE_MS: (u64, u64) = (120_000, 360_000);

/// When a room has just become too large for a full mesh, links are given up one by one, so far apart. In milliseconds.
const SHED_MS: (u64, u64) = (100, 600);

/// So many neighbours make way for newcomers at once, and one more in each interval of milliseconds.
const EVICTIONS_AT_ONCE: u64 = 4;
const EVICTION_EVERY_MS: u64 = 2_000;

/// The server is asked for other names no more often than this, in milliseconds.
const SAMPLE_MS: (u64, u64) = (10_000, 30_000);

/// How a room is meshed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeshLimits {
    /// Up to so many peers, oneself among them, everybody is linked with everybody. A room that was larger is a full mesh again when it has
    /// shrunk a sixth below.
    pub full: usize,
    /// In a larger room: with fewer links than this, others are dialled.
    pub dial: usize,
    /// In a larger room: no more links than this.
    pub accept: usize,
}

impl Default for MeshLimits {
    fn default() -> Self {
        Self { full: 24, dial: 4, accept: 10 }
    }
}

/// One at the other end of an open link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Neighbour {
    pub(super) link: LinkId,
    /// How many links it says that it has.
    pub(super) links: Option<u64>,
    /// Nothing gets through, and it has left as far as the server says.
    pub(super) gone: bool,
}

#[derive(Debug)]
pub(super) struct Mesh {
    limits: MeshLimits,
    bounded: bool,
    /// How many others there are, as far as the server says.
    others: u64,
    /// One more is to be dialled, however many there are.
    explores: bool,
    /// The room has become small, and there are names that we were never told.
    lacks_names: bool,
    evictions: Bucket,
    shed_at_ms: Option<u64>,
    rotate_at_ms: Option<u64>,
    /// Not earlier than this the server is asked for names; `None` where it gives no samples.
    sample_at_ms: Option<u64>,
}

impl Mesh {
    pub(super) fn new(limits: MeshLimits) -> Self {
        Self {
            limits,
            bounded: false,
            others: 0,
            explores: false,
            lacks_names: false,
            evictions: Bucket::new(EVICTIONS_AT_ONCE, EVICTION_EVERY_MS),
            shed_at_ms: None,
            rotate_at_ms: None,
            sample_at_ms: None,
        }
    }

    /// The server has said how many others there are, and whether it gives samples. `anew`: we have just joined.
    pub(super) fn counted(&mut self, others: u64, samples: bool, anew: bool, now_ms: u64, random: &mut Random) {
        if !samples {
            self.sample_at_ms = None;
        } else if anew {
            self.sample_at_ms = Some(now_ms + random.between(SAMPLE_MS.0, SAMPLE_MS.1));
        }
        self.others = others;
        self.reshape(now_ms, random);
        // Where we have been away from may have come apart.
        self.explores |= anew && self.bounded;
    }

    /// Somebody came.
    pub(super) fn joined(&mut self, now_ms: u64, random: &mut Random) {
        self.others = self.others.saturating_add(1);
        self.reshape(now_ms, random);
    }

    /// Somebody left.
    pub(super) fn left(&mut self, now_ms: u64, random: &mut Random) {
        self.others = self.others.saturating_sub(1);
        self.reshape(now_ms, random);
    }

    /// Whether there are names that are to be asked for although nobody is to be dialled.
    pub(super) fn lacks_names(&self) -> bool {
        self.lacks_names
    }

    /// How many others there are, as far as the server says.
    pub(super) fn others(&self) -> u64 {
        self.others
    }

    /// Whether nobody is linked with everybody.
    pub(super) fn is_bounded(&self) -> bool {
        self.bounded
    }

    /// Whether somebody is to be dialled by who has `standing` links that stand or may come about.
    pub(super) fn wants_dial(&self, standing: usize) -> bool {
        !self.bounded || self.explores || standing < self.limits.dial
    }

    /// Somebody was dialled.
    pub(super) fn dialled(&mut self) {
        self.explores = false;
    }

    /// How many of `taken` places must be given back before there is one more link.
    pub(super) fn excess(&self, taken: usize) -> usize {
        if self.bounded { (taken + 1).saturating_sub(self.limits.accept) } else { 0 }
    }

    /// Who makes way for a newcomer.
    pub(super) fn evict(&mut self, neighbours: &[Neighbour], now_ms: u64, random: &mut Random) -> Option<LinkId> {
        let evicted = self.best_connected(neighbours, random)?;
        self.evictions.take(now_ms).then_some(evicted)
    }

    /// Which link is given up now because there are more than there may be.
    pub(super) fn shed(&mut self, neighbours: &[Neighbour], now_ms: u64, random: &mut Random) -> Option<LinkId> {
        if !self.is_over(neighbours.len()) {
            self.shed_at_ms = None;
            return None;
        }
        let due = self.shed_at_ms.is_some_and(|at_ms| at_ms <= now_ms);
        if due || self.shed_at_ms.is_none() {
            self.shed_at_ms = Some(now_ms + random.between(SHED_MS.0, SHED_MS.1));
        }
        if !due {
            return None;
        }
        self.best_connected(neighbours, random).or_else(|| any(neighbours, random))
    }

    /// When [`shed`](Self::shed) is to be asked next.
    pub(super) fn shed_at_ms(&self, neighbours: usize) -> Option<u64> {
        self.is_over(neighbours).then(|| self.shed_at_ms.unwrap_or(0))
    }

    /// Whether it is time for another link in place of an old one, or beside it; and which old one.
    pub(super) fn rotate(&mut self, neighbours: &[Neighbour], now_ms: u64, random: &mut Random) -> Option<LinkId> {
        if self.rotate_at_ms.is_none_or(|at_ms| at_ms > now_ms) {
            return None;
        }
        self.rotate_at_ms = Some(now_ms + random.between(ROTATE_MS.0, ROTATE_MS.1));
        self.explores = true;
        if neighbours.len() >= self.limits.accept {
            // Whatever they say of themselves: nobody can hold all places for ever.
            return any(neighbours, random);
        }
        self.best_connected(neighbours, random).filter(|_| neighbours.len() > self.limits.dial)
    }

    /// When that is.
    pub(super) fn rotate_at_ms(&self) -> Option<u64> {
        self.rotate_at_ms
    }

    /// From when on the server may be asked for other names.
    pub(super) fn sample_at_ms(&self) -> Option<u64> {
        self.sample_at_ms
    }

    /// Whether it is asked now; it is then.
    pub(super) fn sample(&mut self, now_ms: u64, random: &mut Random) -> bool {
        let due = self.sample_at_ms.is_some_and(|at_ms| at_ms <= now_ms);
        if due {
            self.sample_at_ms = Some(now_ms + random.between(SAMPLE_MS.0, SAMPLE_MS.1));
            self.lacks_names = false;
        }
        due
    }

    fn reshape(&mut self, now_ms: u64, random: &mut Random) {
        let peers = usize::try_from(self.others).unwrap_or(usize::MAX).saturating_add(1);
        let full = self.limits.full;
        let most = if self.bounded { full.saturating_sub((full / 6).max(1)) } else { full };
        let bounded = peers > most;
        if bounded == self.bounded {
            return;
        }
        self.bounded = bounded;
        self.shed_at_ms = None;
        self.explores = false;
        self.rotate_at_ms = bounded.then(|| now_ms + random.between(ROTATE_MS.0, ROTATE_MS.1));
        self.lacks_names = !bounded;
    }

    fn is_over(&self, neighbours: usize) -> bool {
        self.bounded && neighbours > self.limits.accept
    }

    /// Who is gone anyway, or else anyone of those with most links, if these are more than it has to have.
    fn best_connected(&self, neighbours: &[Neighbour], random: &mut Random) -> Option<LinkId> {
        if let Some(gone) = neighbours.iter().find(|neighbour| neighbour.gone) {
            return Some(gone.link);
        }
        let most = neighbours.iter().filter_map(|neighbour| neighbour.links).max()?;
        let needs_all = usize::try_from(most).is_ok_and(|most| most <= self.limits.dial);
        let best: Vec<Neighbour> = neighbours.iter().filter(|it| it.links == Some(most)).copied().collect();
        any(&best, random).filter(|_| !needs_all)
    }
}

fn any(neighbours: &[Neighbour], random: &mut Random) -> Option<LinkId> {
    neighbours.get(random.below(neighbours.len())).map(|neighbour| neighbour.link)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: MeshLimits = MeshLimits { full: 6, dial: 2, accept: 4 };

    fn mesh(limits: MeshLimits, others: u64) -> (Mesh, Random) {
        let (mut mesh, mut random) = (Mesh::new(limits), Random::new([3; 32]));
        mesh.counted(others, true, false, 0, &mut random);
        (mesh, random)
    }

    fn neighbours(links: &[Option<u64>]) -> Vec<Neighbour> {
        let neighbour = |(n, links): (usize, &Option<u64>)| Neighbour {
            link: LinkId(u32::try_from(n).unwrap()),
            links: *links,
            gone: false,
        };
        links.iter().enumerate().map(neighbour).collect()
    }

    #[test]
    fn a_room_at_the_threshold_does_not_flap() {
        let (mut mesh, mut random) = mesh(MeshLimits::default(), 23);
        let mut shapes = Vec::new();
        for _ in 0..5 {
            mesh.joined(0, &mut random);
            shapes.push(mesh.is_bounded());
            mesh.left(0, &mut random);
            shapes.push(mesh.is_bounded());
        }
        assert_eq!(shapes, [true; 10]);
        mesh.counted(20, true, false, 0, &mut random);
        assert!(mesh.is_bounded() && !mesh.wants_dial(4) && mesh.wants_dial(3));
        mesh.left(0, &mut random);
        assert!(!mesh.is_bounded() && mesh.wants_dial(1_000) && mesh.excess(1_000) == 0);
        assert!(mesh.lacks_names());
    }

    #[test]
    fn any_count_is_borne() {
        let (mut mesh, mut random) = mesh(MeshLimits::default(), u64::MAX);
        mesh.joined(0, &mut random);
        assert!(mesh.is_bounded());
        mesh.counted(0, false, false, 0, &mut random);
        mesh.left(0, &mut random);
        assert!(!mesh.is_bounded() && mesh.others() == 0);
        for full in 0..4 {
            let (mut mesh, mut random) = (Mesh::new(MeshLimits { full, ..SMALL }), Random::new([3; 32]));
            (0..9).for_each(|_| mesh.joined(0, &mut random));
            (0..9).for_each(|_| mesh.left(0, &mut random));
        }
    }

    #[test]
    fn the_best_connected_makes_way_if_it_can_spare_a_link() {
        let (mut mesh, mut random) = mesh(SMALL, 20);
        let told = |links: &[u64]| neighbours(&links.iter().map(|links| Some(*links)).collect::<Vec<_>>());
        assert_eq!(mesh.evict(&told(&[1, 4, 3, 2]), 0, &mut random), Some(LinkId(1)));
        assert_eq!(mesh.evict(&told(&[2, 1, 0, 2]), 0, &mut random), None, "they would only dial again");
        // Who lies wins or loses its own link.
        assert_eq!(mesh.evict(&told(&[4, 4, u64::MAX, 4]), 0, &mut random), Some(LinkId(2)));
        assert_eq!(mesh.evict(&told(&[3, 0, 0, 0]), 0, &mut random), Some(LinkId(0)));
        assert_eq!(mesh.evict(&neighbours(&[None; 4]), 0, &mut random), None);
        let mut gone = told(&[4, 4, 4, 0]);
        gone[3].gone = true;
        assert_eq!(mesh.evict(&gone, 0, &mut random), Some(LinkId(3)));
        // Not all at once.
        let mut many = 0;
        while mesh.evict(&told(&[4; 4]), 0, &mut random).is_some() {
            many += 1;
            assert!(many <= EVICTIONS_AT_ONCE);
        }
        assert!(mesh.evict(&told(&[4; 4]), EVICTION_EVERY_MS, &mut random).is_some());
    }

    #[test]
    fn what_a_full_mesh_left_behind_is_given_up_one_by_one() {
        let (mut mesh, mut random) = mesh(SMALL, 20);
        let (mut links, mut now_ms, mut given_up) = (vec![Some(19); 19], 0, Vec::new());
        while let Some(at_ms) = mesh.shed_at_ms(links.len()) {
            now_ms = at_ms.max(now_ms);
            if mesh.shed(&neighbours(&links), now_ms, &mut random).is_some() {
                links.pop();
                given_up.push(now_ms);
            }
        }
        assert_eq!((links.len(), given_up.len()), (4, 15));
        assert!(given_up.windows(2).all(|two| two[1] >= two[0] + SHED_MS.0));
        assert_eq!(mesh.shed(&neighbours(&links), now_ms + 10_000, &mut random), None);
    }

    #[test]
    fn links_are_rotated_and_liars_do_not_stay_for_ever() {
        let (mut mesh, mut random) = mesh(SMALL, 20);
        let mut victims = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let at_ms = mesh.rotate_at_ms().unwrap();
            assert_eq!(mesh.rotate(&neighbours(&[Some(4); 4]), at_ms - 1, &mut random), None);
            assert!(!mesh.wants_dial(9));
            victims.extend(mesh.rotate(&neighbours(&[Some(0); 4]), at_ms, &mut random));
            assert!(mesh.wants_dial(9), "another one in its place");
            mesh.dialled();
        }
        assert_eq!(victims.len(), 4);
        // With few links it is one more.
        let at_ms = mesh.rotate_at_ms().unwrap();
        assert_eq!(mesh.rotate(&neighbours(&[Some(4); 2]), at_ms, &mut random), None);
        assert!(mesh.wants_dial(9));
    }

    #[test]
    fn places_are_counted() {
        let (mesh, _) = mesh(SMALL, 20);
        assert_eq!([0, 3, 4, 7].map(|taken| mesh.excess(taken)), [0, 0, 1, 4]);
    }
}
