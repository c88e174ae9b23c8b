//! The names of DNS that a name may stand for: [`candidates`].

use hickory_resolver::config::ResolverConfig;
use hickory_resolver::proto::rr::Name;

/// The names that are asked for, one after the other, as resolv.conf(5) says. `ndots` is how many dots a name has that is asked
/// for as it stands before the search list is used. A name with a dot at its end stands for itself.
pub(super) fn candidates(name: &Name, config: &ResolverConfig, ndots: usize) -> Vec<Name> {
    let mut as_written = name.clone();
    as_written.set_fqdn(true);
    if name.is_fqdn() {
        return vec![as_written];
    }
    let listed = config.domain().filter(|_| config.search().is_empty()).into_iter().chain(config.search());
    let mut candidates: Vec<Name> = listed.filter_map(|domain| name.clone().append_domain(domain).ok()).collect();
    let dots = usize::from(name.num_labels()).saturating_sub(1);
    let at = if dots >= ndots { 0 } else { candidates.len() };
    candidates.insert(at, as_written);
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &str, search: &[&str], ndots: usize) -> Vec<String> {
        let search = search.iter().map(|domain| domain.parse().unwrap()).collect();
        let config = ResolverConfig::from_parts(Some("example.".parse().unwrap()), search, Vec::new());
        candidates(&name.parse().unwrap(), &config, ndots).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_name_is_completed_as_resolv_conf_says() {
        let cluster = ["a.svc.cluster.local.", "cluster.local."];
        assert_eq!(asked("orders", &cluster, 5), ["orders.a.svc.cluster.local.", "orders.cluster.local.", "orders."]);
        assert_eq!(asked("orders.internal", &["corp."], 1), ["orders.internal.", "orders.internal.corp."]);
        assert_eq!(asked("orders.internal", &["corp."], 2), ["orders.internal.corp.", "orders.internal."]);
        assert_eq!(asked("orders.internal.", &["corp."], 2), ["orders.internal."], "its dot says that it is whole");
        assert_eq!(asked("orders", &[], 1), ["orders.example.", "orders."], "without a list there is the domain");
    }
}
