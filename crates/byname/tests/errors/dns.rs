//! What a build with DNS has that one without it provokes.

use super::Page;

pub(crate) fn dns(page: &mut Page) {
    page.keep("### The replicas are in SRV records, but the feature `dns` is off");
}
