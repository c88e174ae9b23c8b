//! What DNS says of one name and one type of record: [`RecordAnswer`].

use hickory_resolver::TokioResolver;
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

/// An answer, a failure, or neither.
pub(super) enum RecordAnswer {
    /// The answer has such records.
    Found(Lookup),
    /// There are none, and a server has said so.
    Absent { name_exists: bool },
    /// It is not known whether there are some. `is_answered` says whether a server has refused to tell.
    Failed { why: String, is_answered: bool },
}

impl RecordAnswer {
    /// Asks for the records of this name, which is not completed.
    pub(super) async fn of(resolver: &TokioResolver, name: Name, kind: RecordType) -> Self {
        match resolver.lookup(name, kind).await {
            Ok(found) if found.answers().iter().any(|record| record.record_type() == kind) => Self::Found(found),
            Ok(_) => Self::Absent { name_exists: true },
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                Self::Absent { name_exists: none.response_code != ResponseCode::NXDomain }
            }
            Err(why @ NetError::Dns(DnsError::ResponseCode(_))) => {
                Self::Failed { why: why.to_string(), is_answered: true }
            }
            Err(why) => Self::Failed { why: why.to_string(), is_answered: false },
        }
    }
}

/// The shortest TTL of these records and of the aliases that lead to them.
pub(super) fn shortest_ttl(records: &[Record], kind: RecordType) -> u32 {
    let counts = |record: &&Record| record.record_type() == kind || matches!(record.data, RData::CNAME(_));
    records.iter().filter(counts).map(|record| record.ttl).min().unwrap_or_default()
}
