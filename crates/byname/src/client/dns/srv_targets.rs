//! Which targets of SRV records are used: [`preferred`].

use hickory_resolver::proto::rr::Name;

/// A record of RFC 2782 without its weight: the load of the replicas says which of them gets a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SrvTarget {
    pub(super) priority: u16,
    pub(super) name: Name,
    pub(super) port: u16,
}

/// The targets of the lowest priority, in the order of the answer and each once, or why there are none.
pub(super) fn preferred(targets: Vec<SrvTarget>) -> Result<Vec<SrvTarget>, &'static str> {
    if targets.iter().all(|target| target.name.is_root()) {
        return Err("its SRV record has the target `.`, which says that the service is not available");
    }
    let usable = |target: &&SrvTarget| !target.name.is_root() && target.port > 0;
    let Some(lowest) = targets.iter().filter(usable).map(|target| target.priority).min() else {
        return Err("its SRV records have the port 0, where nothing listens");
    };
    let mut preferred: Vec<SrvTarget> = Vec::new();
    for target in targets.iter().filter(usable).filter(|target| target.priority == lowest) {
        if !preferred.iter().any(|known| known.name == target.name && known.port == target.port) {
            preferred.push(target.clone());
        }
    }
    Ok(preferred)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(priority: u16, name: &str, port: u16) -> SrvTarget {
        SrvTarget { priority, name: name.parse().unwrap(), port }
    }

    #[test]
    fn the_targets_of_the_lowest_priority_are_used() {
        let (one, two, spare) = (target(1, "a.", 80), target(1, "b.", 81), target(2, "c.", 80));
        let again = target(1, "A.", 80);
        assert_eq!(preferred(vec![spare, two.clone(), one.clone(), again]).unwrap(), [two, one]);
    }

    #[test]
    fn a_service_that_is_not_available_says_so() {
        assert!(preferred(vec![target(0, ".", 0)]).unwrap_err().contains("not available"));
        assert!(preferred(vec![target(0, "a.", 0)]).unwrap_err().contains("port 0"));
    }

    proptest! {
        #[test]
        fn what_is_used_has_the_lowest_priority_and_nothing_of_it_is_missing(
            all in proptest::collection::vec((0..3u16, 0..4u8, 0..3u16), 1..12),
        ) {
            let all: Vec<_> = all.iter().map(|(priority, name, port)| target(*priority, &format!("n{name}."), *port)).collect();
            let usable = || all.iter().filter(|target| target.port > 0);
            let lowest = usable().map(|target| target.priority).min();
            match preferred(all.clone()) {
                Ok(used) => {
                    prop_assert!(used.iter().all(|target| Some(target.priority) == lowest));
                    prop_assert!(usable().filter(|target| Some(target.priority) == lowest).all(|target| used.contains(target)));
                    let mut places: Vec<_> = used.iter().map(|target| (target.name.clone(), target.port)).collect();
                    places.sort();
                    places.dedup();
                    prop_assert_eq!(places.len(), used.len());
                }
                Err(_) => prop_assert_eq!(lowest, None),
            }
        }
    }
}
