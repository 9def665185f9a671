//! Who may take up the coordinator's time before it is known who they are.
//!
//! A handshake costs a third of a millisecond of one core and some tens of
//! kibibytes, and a peer that stalls holds them for its time limit. So few run
//! at once, one address gets no more than half of them, and the rest wait as
//! bare sockets, in order: ten thousand agents that come back at once are
//! served at the pace of the machine, and a flood from one address leaves room
//! for the others.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Handshakes at once.
const HANDSHAKES: usize = 256;
/// Of these for one address.
const OF_ONE_ADDRESS: usize = HANDSHAKES / 2;
/// Sockets that may wait for their handshake; beyond, they are closed unseen.
const WAITING: usize = 16_384;
/// Connections without a client certificate at once: they may enrol, renew or
/// send signed requests, each of them short.
const ANONYMOUS: usize = 1_024;
/// Of these for one address.
const ANONYMOUS_OF_ONE: usize = ANONYMOUS / 8;

/// Hands out permits.
#[derive(Debug)]
pub(super) struct Admission {
    handshakes: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    anonymous: Arc<Semaphore>,
    handshakes_of: OfAddress,
    anonymous_of: OfAddress,
}

/// What each address may hold.
#[derive(Debug)]
struct OfAddress {
    most: usize,
    held: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

/// The right to wait for a handshake.
pub(super) struct Place {
    address: IpAddr,
    _waiting: OwnedSemaphorePermit,
}

/// The right to shake hands; ends when it is dropped.
pub(super) struct Ticket {
    _address: OwnedSemaphorePermit,
    _handshake: OwnedSemaphorePermit,
}

/// The right of a connection without certificate to be answered.
#[derive(Debug, Clone)]
pub(super) struct Anonymous(Arc<Mutex<Option<[OwnedSemaphorePermit; 2]>>>);

impl Anonymous {
    /// Leaves the place to others: the peer has proved who it is, and may wait
    /// for its orders without standing in strangers' way.
    pub(super) fn known(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Admission {
    pub(super) fn new() -> Self {
        Self {
            handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
            waiting: Arc::new(Semaphore::new(WAITING)),
            anonymous: Arc::new(Semaphore::new(ANONYMOUS)),
            handshakes_of: OfAddress::new(OF_ONE_ADDRESS),
            anonymous_of: OfAddress::new(ANONYMOUS_OF_ONE),
        }
    }

    /// A place in the queue; none when it is full.
    pub(super) fn place(&self, address: IpAddr) -> Option<Place> {
        let waiting = Arc::clone(&self.waiting).try_acquire_owned().ok()?;
        Some(Place { address, _waiting: waiting })
    }

    /// Waits for its turn. None never comes: the semaphores are not closed.
    pub(super) async fn ticket(&self, place: Place) -> Option<Ticket> {
        // The address' own limit first, so that who waits for it holds nothing
        // that others want.
        let of_address = self.handshakes_of.get(place.address).acquire_owned().await.ok()?;
        let handshake = Arc::clone(&self.handshakes).acquire_owned().await.ok()?;
        Some(Ticket { _address: of_address, _handshake: handshake })
    }

    /// The right of a connection without certificate to be answered; none when
    /// there are too many, of all or of its address.
    pub(super) fn anonymous(&self, address: IpAddr) -> Option<Anonymous> {
        let of_address = self.anonymous_of.get(address).try_acquire_owned().ok()?;
        let of_all = Arc::clone(&self.anonymous).try_acquire_owned().ok()?;
        Some(Anonymous(Arc::new(Mutex::new(Some([of_address, of_all])))))
    }
}

impl OfAddress {
    fn new(most: usize) -> Self {
        Self { most, held: Mutex::default() }
    }

    fn get(&self, address: IpAddr) -> Arc<Semaphore> {
        let mut addresses = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = addresses.get(&address).and_then(Weak::upgrade) {
            return known;
        }
        // Now and then, so that addresses that have gone do not stay.
        if addresses.len() >= 1_024 && addresses.len().is_power_of_two() {
            addresses.retain(|_, semaphore| semaphore.strong_count() > 0);
        }
        let semaphore = Arc::new(Semaphore::new(self.most));
        addresses.insert(address, Arc::downgrade(&semaphore));
        semaphore
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    fn ticket(admission: &Admission, last: u8) -> Option<Ticket> {
        let place = admission.place(address(last)).expect("a place");
        admission.ticket(place).now_or_never().flatten()
    }

    #[test]
    fn one_address_gets_half_of_the_handshakes_and_leaves_the_rest_to_others() {
        let admission = Admission::new();
        let mut held: Vec<Ticket> = std::iter::from_fn(|| ticket(&admission, 1)).collect();
        assert_eq!(held.len(), OF_ONE_ADDRESS);
        let others: Vec<Ticket> = std::iter::from_fn(|| ticket(&admission, 2)).collect();
        assert_eq!(others.len(), HANDSHAKES - OF_ONE_ADDRESS);
        assert!(ticket(&admission, 3).is_none(), "more handshakes than there are");
        held.pop();
        assert!(ticket(&admission, 3).is_some(), "what ended is free again");
    }

    #[test]
    fn one_address_gets_an_eighth_of_the_places_without_certificate() {
        let admission = Admission::new();
        let of = |last: u8| std::iter::from_fn(move || Some(last));
        let held: Vec<Anonymous> = of(1).map_while(|last| admission.anonymous(address(last))).collect();
        assert_eq!(held.len(), ANONYMOUS_OF_ONE);
        let other = admission.anonymous(address(2)).expect("room for others");
        held[0].known();
        let again = admission.anonymous(address(1)).expect("who is known holds no place");
        assert!(admission.anonymous(address(1)).is_none());
        drop((held, other, again));
        let all: Vec<Anonymous> =
            (0..=u8::MAX).flat_map(|last| of(last).map_while(|last| admission.anonymous(address(last)))).collect();
        assert_eq!(all.len(), ANONYMOUS);
    }

    #[test]
    fn a_socket_beyond_the_queue_is_not_kept() {
        let admission = Admission::new();
        let places: Vec<Place> = std::iter::from_fn(|| admission.place(address(1))).collect();
        assert_eq!(places.len(), WAITING);
        drop(places);
        assert!(admission.place(address(1)).is_some());
    }

    #[test]
    fn addresses_that_have_gone_are_forgotten() {
        let admission = Admission::new();
        for n in 0..5_000_u32 {
            let place = admission.place(IpAddr::from(n.to_be_bytes())).expect("a place");
            assert!(admission.ticket(place).now_or_never().flatten().is_some());
        }
        assert!(admission.handshakes_of.held.lock().expect("not poisoned").len() <= 1_024 * 2);
    }
}
