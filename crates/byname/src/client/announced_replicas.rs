//! The replicas that have announced themselves below a prefix of etcd: [`AnnouncedReplicas`]. A state machine without
//! sockets and without a clock.

use std::collections::BTreeMap;

use crate::etcd::{KeyChange, Keys};

/// The keys below the prefix, and from where on changes are watched.
#[derive(Debug)]
pub(super) struct AnnouncedReplicas {
    /// With the slash at its end.
    prefix: String,
    /// The values of the instances.
    instances: BTreeMap<String, String>,
    /// The revision of the store that they are from. `None` if they must be read.
    revision: Option<i64>,
    version: u64,
}

impl AnnouncedReplicas {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: format!("{prefix}/"), instances: BTreeMap::new(), revision: None, version: 0 }
    }

    /// The first revision that is not known. `None` if the keys must be read.
    pub(super) fn next_revision(&self) -> Option<i64> {
        self.revision.map(|revision| revision + 1)
    }

    /// Different values have different numbers.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Each key and its value.
    pub(super) fn entries(&self) -> impl Iterator<Item = (String, &str)> {
        self.instances.iter().map(|(instance, value)| (format!("{}{instance}", self.prefix), value.as_str()))
    }

    /// All keys were read.
    pub(super) fn read(&mut self, keys: Keys) {
        let found = keys.entries.into_iter().filter_map(|(key, value)| Some((self.instance(&key)?, value)));
        let instances = found.collect();
        if self.instances != instances {
            self.instances = instances;
            self.version += 1;
        }
        self.revision = Some(keys.revision);
    }

    /// Whether these keys, which were read, are those that are known.
    pub(super) fn is_same(&self, keys: &Keys) -> bool {
        let read = keys.entries.iter().filter_map(|(key, value)| Some((self.instance(key)?, value.as_str())));
        let known = self.instances.iter().map(|(instance, value)| (instance.clone(), value.as_str()));
        read.collect::<BTreeMap<_, _>>() == known.collect()
    }

    /// The watch has told of changes, up to a revision.
    pub(super) fn changed(&mut self, changes: Vec<KeyChange>, revision: i64) {
        let mut is_other = false;
        for change in changes {
            is_other |= match change {
                KeyChange::Put { key, value } => match self.instance(&key) {
                    Some(instance) => self.instances.insert(instance, value.clone()) != Some(value),
                    None => false,
                },
                KeyChange::Deleted { key } => {
                    self.instance(&key).is_some_and(|instance| self.instances.remove(&instance).is_some())
                }
            };
        }
        self.version += u64::from(is_other);
        self.revision = self.revision.max(Some(revision));
    }

    /// The watch is lost, or it begins before what the store remembers: changes may have been missed.
    pub(super) fn lost(&mut self) {
        self.revision = None;
    }

    /// A key with a slash belongs to another prefix.
    fn instance(&self, key: &str) -> Option<String> {
        key.strip_prefix(&self.prefix).filter(|instance| !instance.contains('/')).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::*;

    fn put(key: &str, value: &str) -> KeyChange {
        KeyChange::Put { key: key.into(), value: value.into() }
    }

    fn entries(known: &AnnouncedReplicas) -> Vec<(String, String)> {
        known.entries().map(|(key, value)| (key, value.to_owned())).collect()
    }

    #[test]
    fn a_watch_goes_on_where_the_keys_were_read() {
        let mut known = AnnouncedReplicas::new("orders");
        assert_eq!((known.next_revision(), known.version()), (None, 0));
        known.read(Keys { entries: vec![("orders/1".into(), "a".into())], revision: 5 });
        assert_eq!((known.next_revision(), known.version()), (Some(6), 1));
        known.changed(Vec::new(), 7);
        assert_eq!((known.next_revision(), known.version()), (Some(8), 1));
        known.changed(vec![put("orders/2", "b"), KeyChange::Deleted { key: "orders/1".into() }], 9);
        assert_eq!(entries(&known), [("orders/2".to_owned(), "b".to_owned())]);
        assert_eq!((known.next_revision(), known.version()), (Some(10), 2));
        known.lost();
        assert_eq!((known.next_revision(), entries(&known).len()), (None, 1), "the values stay in use");
        // A store that was restored has an earlier revision.
        known.read(Keys { entries: vec![("orders/2".into(), "b".into())], revision: 3 });
        assert_eq!((known.next_revision(), known.version()), (Some(4), 2));
    }

    #[test]
    fn what_changes_nothing_has_the_same_version() {
        let mut known = AnnouncedReplicas::new("orders");
        known.read(Keys { entries: vec![("orders/1".into(), "a".into())], revision: 5 });
        known.changed(vec![put("orders/1", "a"), KeyChange::Deleted { key: "orders/2".into() }], 6);
        assert_eq!(known.version(), 1);
    }

    #[test]
    fn keys_that_the_watch_has_not_told_are_a_difference() {
        let mut known = AnnouncedReplicas::new("orders");
        let keys = |entries: &[(&str, &str)]| Keys {
            entries: entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            revision: 9,
        };
        known.read(keys(&[("orders/1", "a"), ("orders/2", "b")]));
        assert!(known.is_same(&keys(&[("orders/2", "b"), ("orders/1", "a"), ("orders/eu/1", "c")])));
        assert!(!known.is_same(&keys(&[("orders/1", "a")])), "one is gone");
        assert!(!known.is_same(&keys(&[("orders/1", "a"), ("orders/2", "c")])), "one has another value");
        assert!(!known.is_same(&keys(&[("orders/1", "a"), ("orders/2", "b"), ("orders/3", "c")])), "one is new");
        assert_eq!(known.version(), 1);
    }

    #[test]
    fn keys_of_longer_prefixes_are_of_other_services() {
        let mut known = AnnouncedReplicas::new("orders");
        known.read(Keys {
            entries: vec![("orders/eu/1".into(), "a".into()), ("orders".into(), "b".into())],
            revision: 1,
        });
        known.changed(vec![put("orders/eu/2", "a"), put("ordersx/1", "a")], 2);
        assert_eq!((entries(&known).len(), known.version()), (0, 0));
    }

    #[derive(Clone, Debug)]
    enum Event {
        Put(u8, u8),
        Delete(u8),
        /// The keys are read again.
        Read,
        Lost,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0..5_u8, any::<u8>()).prop_map(|(key, value)| Event::Put(key, value % 3)),
            3 => (0..5_u8).prop_map(Event::Delete),
            1 => Just(Event::Read),
            1 => Just(Event::Lost),
        ]
    }

    proptest! {
        /// Against a store that remembers everything.
        #[test]
        fn what_is_watched_is_what_would_be_read(events in proptest::collection::vec(event(), 0..60)) {
            let mut store = BTreeMap::new();
            let mut revision = 1;
            let mut known = AnnouncedReplicas::new("p");
            for event in events {
                let before = (entries(&known), known.version());
                let change = match event {
                    Event::Put(key, value) => {
                        store.insert(format!("p/{key}"), value.to_string());
                        revision += 1;
                        Some(put(&format!("p/{key}"), &value.to_string()))
                    }
                    Event::Delete(key) => {
                        let is_there = store.remove(&format!("p/{key}")).is_some();
                        revision += i64::from(is_there);
                        is_there.then(|| KeyChange::Deleted { key: format!("p/{key}") })
                    }
                    Event::Read => {
                        known.read(Keys { entries: store.clone().into_iter().collect(), revision });
                        None
                    }
                    Event::Lost => {
                        known.lost();
                        None
                    }
                };
                // Only a watch is told.
                if let Some(change) = change && known.next_revision().is_some() {
                    prop_assert_eq!(known.next_revision(), Some(revision));
                    known.changed(vec![change], revision);
                }
                if known.next_revision().is_some() {
                    prop_assert_eq!(entries(&known), store.clone().into_iter().collect::<Vec<_>>());
                }
                prop_assert_eq!(before.0 == entries(&known), before.1 == known.version());
                prop_assert!(known.next_revision().is_none_or(|next| next == revision + 1));
            }
        }
    }
}
