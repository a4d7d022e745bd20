//! How many connections each address has.
//!
//! Invariant: an address without connections is not kept. Of IPv6 the first 64 bits count: that is what one subscriber has.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The connections of every address.
#[derive(Debug)]
pub(crate) struct Addresses {
    most: usize,
    counts: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's place among those of its address, for as long as this is kept.
#[derive(Debug)]
pub(crate) struct Place {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, counts: Mutex::default() })
    }

    /// A place for another connection. None: the address has as many as it may.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = subscriber(address);
        let mut counts = self.lock();
        let count = counts.entry(address).or_default();
        if *count >= self.most {
            if *count == 0 {
                counts.remove(&address);
            }
            return None;
        }
        *count += 1;
        Some(Place { addresses: Arc::clone(self), address })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.addresses.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_and_gets_them_back() {
        let addresses = Addresses::new(2);
        let at = |text: &str| addresses.take(text.parse().unwrap());
        let first = at("192.0.2.1");
        let mapped = at("::ffff:192.0.2.1");
        assert!(first.is_some() && mapped.is_some() && at("192.0.2.1").is_none());
        let (six, same) = (at("2001:db8::1"), at("2001:db8::ffff:2"));
        assert!(six.is_some() && same.is_some() && at("2001:db8::3").is_none() && at("2001:db8:0:1::").is_some());
        drop(mapped);
        assert!(at("192.0.2.1").is_some());
        drop((first, six, same));
        assert!(addresses.lock().is_empty());
        assert!(Addresses::new(0).take("192.0.2.1".parse().unwrap()).is_none());
    }
}
