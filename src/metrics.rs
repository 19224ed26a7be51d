//! Every metric: its name, as etcd's dashboards know it, and its counter.
//!
//! Counters are atomics that one shard writes and any shard reads when `/metrics` is asked for; their order among each
//! other does not matter, so all accesses are relaxed. Only what exists is exposed: a name appears with its feature.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::api::node::{Identity, PeerTraffic, Published, RoundTrips};
use crate::api::operations::Operations;
use crate::version::{ETCD_CLUSTER_VERSION, ETCD_VERSION};

/// Upper bounds of the disk histograms' buckets: etcd's, 1 ms doubling, with finer ones before for fast disks.
const DISK_BUCKETS: [Duration; 17] = {
    let mut buckets = [Duration::from_micros(125); 17];
    let mut at = 1;
    while at < buckets.len() {
        buckets[at] = Duration::from_micros(125 << at);
        at += 1;
    }
    buckets
};

/// A histogram of durations.
#[derive(Debug)]
struct Histogram {
    buckets: [AtomicU64; DISK_BUCKETS.len()],
    count: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; DISK_BUCKETS.len()],
            count: AtomicU64::new(0),
            nanoseconds: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    fn observe(&self, duration: Duration) {
        let bucket = DISK_BUCKETS.partition_point(|bound| *bound < duration);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
        self.count.fetch_add(1, Relaxed);
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Relaxed);
    }
}

/// The member's counters.
#[derive(Debug, Default)]
pub struct Metrics {
    wal_fsync: Histogram,
    wal_bytes: AtomicU64,
    checkpoints: Histogram,
    requests_applied: AtomicU64,
    proposals_pending: AtomicU64,
    proposals_failed: AtomicU64,
    entries_touched: AtomicU64,
    leader_changes: AtomicU64,
    puts: AtomicU64,
    deletes: AtomicU64,
    txns: AtomicU64,
    ranges: AtomicU64,
    leases_granted: AtomicU64,
    leases_revoked: AtomicU64,
    leases_expired: AtomicU64,
    leases_renewed: AtomicU64,
    connections: AtomicU64,
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
    /// As of a little while ago.
    peers: ArcSwap<Vec<PeerTraffic>>,
}

impl Metrics {
    /// One write of the log became durable.
    pub fn wal_write(&self, duration: Duration, bytes: u64) {
        self.wal_fsync.observe(duration);
        self.wal_bytes.fetch_add(bytes, Relaxed);
    }

    /// A checkpoint became durable.
    pub fn checkpoint(&self, duration: Duration) {
        self.checkpoints.observe(duration);
    }

    /// So many requests were applied.
    pub fn applied(&self, requests: usize) {
        self.requests_applied.fetch_add(requests as u64, Relaxed);
    }

    /// So many proposals wait now.
    pub fn pending(&self, proposals: usize) {
        self.proposals_pending.store(proposals as u64, Relaxed);
    }

    /// An entry's pages are read ahead, because memory is short.
    pub fn touched(&self) {
        self.entries_touched.fetch_add(1, Relaxed);
    }

    /// So many requests were refused or lost.
    pub fn failed(&self, requests: usize) {
        self.proposals_failed.fetch_add(requests as u64, Relaxed);
    }

    /// The leader is another than before.
    pub fn leader_changed(&self) {
        self.leader_changes.fetch_add(1, Relaxed);
    }

    /// What has gone to other members and come from them.
    pub fn peers(&self, traffic: Vec<PeerTraffic>) {
        self.peers.store(Arc::new(traffic));
    }

    /// The same, as it was told last.
    pub fn peer_traffic(&self) -> Arc<Vec<PeerTraffic>> {
        self.peers.load_full()
    }

    /// What a shard's connections have done since it last said so.
    pub fn network(&self, change: &NetworkChange) {
        self.connections.fetch_add(change.connections.cast_unsigned(), Relaxed);
        self.bytes_received.fetch_add(change.bytes_received, Relaxed);
        self.bytes_sent.fetch_add(change.bytes_sent, Relaxed);
    }

    /// What was done.
    pub fn operations(&self, operations: &Operations) {
        self.puts.fetch_add(operations.puts, Relaxed);
        self.deletes.fetch_add(operations.deletes, Relaxed);
        self.txns.fetch_add(operations.txns, Relaxed);
        self.leases_granted.fetch_add(operations.leases_granted, Relaxed);
        self.leases_revoked.fetch_add(operations.leases_revoked, Relaxed);
        self.leases_expired.fetch_add(operations.leases_expired, Relaxed);
        self.leases_renewed.fetch_add(operations.leases_renewed, Relaxed);
    }

    /// So many ranges were answered.
    pub fn ranges(&self, ranges: u64) {
        self.ranges.fetch_add(ranges, Relaxed);
    }

    /// The page of `/metrics`, in Prometheus's text format 0.0.4.
    pub fn text(&self, identity: &Identity, published: &Published) -> String {
        let mut page = Page(String::with_capacity(8 * 1024));
        self.server(&mut page, identity, published);
        self.disk(&mut page);
        self.mvcc(&mut page, published);
        self.lease(&mut page);
        self.clients(&mut page);
        self.network_of_peers(&mut page);
        process(&mut page);
        page.0
    }

    fn server(&self, page: &mut Page, identity: &Identity, published: &Published) {
        let leads = published.leader == Some(identity.member);
        let has_leader = u64::from(published.leader.is_some());
        page.gauge("etcd_server_has_leader", "Whether a leader is known.", has_leader);
        page.gauge("etcd_server_is_leader", "Whether this member leads.", u64::from(leads));
        let is_learner = published.view.members().is_learner(identity.member);
        page.gauge("etcd_server_is_learner", "Whether it is a learner.", u64::from(is_learner));
        let changes = self.leader_changes.load(Relaxed);
        page.counter("etcd_server_leader_changes_seen_total", "Leader changes seen.", changes);
        let committed = published.committed.0;
        page.gauge("etcd_server_proposals_committed_total", "Newest committed entry.", committed);
        let applied = published.view.applied().0;
        page.gauge("etcd_server_proposals_applied_total", "Newest applied entry.", applied);
        let pending = self.proposals_pending.load(Relaxed);
        page.gauge("etcd_server_proposals_pending", "Entries not yet applied.", pending);
        let failed = self.proposals_failed.load(Relaxed);
        page.counter("etcd_server_proposals_failed_total", "Requests refused or lost.", failed);
        let touched = self.entries_touched.load(Relaxed);
        let name = "urd_server_entries_touched_total";
        page.counter(name, "Entries whose pages were read ahead, memory being short.", touched);
        let requests = self.requests_applied.load(Relaxed);
        page.counter("urd_server_requests_applied_total", "Requests applied.", requests);
        let version = format!("server_version=\"{ETCD_VERSION}\"");
        page.labelled("etcd_server_version", "The etcd whose API this is.", &version);
        let version = format!("cluster_version=\"{ETCD_CLUSTER_VERSION}\"");
        page.labelled("etcd_cluster_version", "What all members speak.", &version);
        let id = format!("server_id=\"{}\"", identity.member);
        page.labelled("etcd_server_id", "This member's id.", &id);
    }

    fn disk(&self, page: &mut Page) {
        let help = "Durable writes of the log.";
        page.histogram("etcd_disk_wal_fsync_duration_seconds", help, &self.wal_fsync);
        let help = "Checkpoints, each as a whole, in the background.";
        page.histogram("etcd_disk_backend_commit_duration_seconds", help, &self.checkpoints);
        let bytes = self.wal_bytes.load(Relaxed);
        page.counter("etcd_disk_wal_write_bytes_total", "Bytes written to the log.", bytes);
    }

    fn mvcc(&self, page: &mut Page, published: &Published) {
        let (sizes, view) = (&published.sizes, &published.view);
        page.gauge("etcd_mvcc_db_total_size_in_bytes", "Bytes of the tree.", sizes.bytes);
        let used = sizes.bytes_in_use;
        page.gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of it in use.", used);
        page.counter("etcd_mvcc_put_total", "Puts applied.", self.puts.load(Relaxed));
        page.counter("etcd_mvcc_delete_total", "Deletions applied.", self.deletes.load(Relaxed));
        page.counter("etcd_mvcc_txn_total", "Transactions applied.", self.txns.load(Relaxed));
        page.counter("etcd_mvcc_range_total", "Ranges answered.", self.ranges.load(Relaxed));
        let revision = view.revision().0;
        page.signed("etcd_debugging_mvcc_current_revision", "The newest revision.", revision);
        let compacted = view.compacted().0;
        page.signed("etcd_debugging_mvcc_compact_revision", "Compacted up to here.", compacted);
    }

    fn lease(&self, page: &mut Page) {
        let expired = self.leases_expired.load(Relaxed);
        page.counter("etcd_debugging_server_lease_expired_total", "Leases that expired.", expired);
        let granted = self.leases_granted.load(Relaxed);
        page.counter("etcd_debugging_lease_granted_total", "Leases granted.", granted);
        let revoked = self.leases_revoked.load(Relaxed);
        page.counter("etcd_debugging_lease_revoked_total", "Leases revoked or expired.", revoked);
        let renewed = self.leases_renewed.load(Relaxed);
        page.counter("etcd_debugging_lease_renewed_total", "Leases kept alive.", renewed);
    }

    fn clients(&self, page: &mut Page) {
        let open = self.connections.load(Relaxed);
        page.gauge("urd_network_client_connections", "Open client connections.", open);
        let received = self.bytes_received.load(Relaxed);
        let name = "etcd_network_client_grpc_received_bytes_total";
        page.counter(name, "Bytes of requests.", received);
        let sent = self.bytes_sent.load(Relaxed);
        page.counter("etcd_network_client_grpc_sent_bytes_total", "Bytes of answers.", sent);
    }
}

/// A value of each peer, for a line with its label.
type OfPeer<T> = fn(&PeerTraffic) -> T;

impl Metrics {
    fn network_of_peers(&self, page: &mut Page) {
        let peers = self.peers.load();
        if peers.is_empty() {
            return;
        }
        let counters: [(&str, &str, OfPeer<u64>); 4] = [
            ("etcd_network_peer_sent_bytes_total", "Bytes sent to members.", |peer| {
                peer.sent_bytes
            }),
            ("etcd_network_peer_received_bytes_total", "Bytes received from members.", |peer| {
                peer.received_bytes
            }),
            (
                "etcd_network_peer_sent_failures_total",
                "Connections to members that broke.",
                |peer| peer.failures,
            ),
            ("urd_network_peer_dropped_messages_total", "Messages not sent.", |peer| {
                peer.dropped_messages
            }),
        ];
        for (name, help, value) in counters {
            page.head(name, help, "counter");
            for peer in peers.iter() {
                page.line(format_args!("{name}{{To=\"{}\"}} {}", peer.member, value(peer)));
            }
        }
        let name = "etcd_network_active_peers";
        page.head(name, "Members that can be reached.", "gauge");
        for peer in peers.iter() {
            let active = u8::from(peer.is_active);
            page.line(format_args!("{name}{{Remote=\"{}\"}} {active}", peer.member));
        }
        let name = "etcd_network_peer_round_trip_time_seconds";
        page.head(name, "Round trips to members.", "summary");
        for PeerTraffic { member, round_trips: RoundTrips { count, total, .. }, .. } in peers.iter()
        {
            page.line(format_args!("{name}_sum{{To=\"{member}\"}} {}", total.as_secs_f64()));
            page.line(format_args!("{name}_count{{To=\"{member}\"}} {count}"));
        }
    }
}

/// What the kernel knows of this process. A number that it does not tell is left out.
fn process(page: &mut Page) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kibibytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
    };
    if let Some(resident) = kibibytes("VmRSS") {
        page.gauge("process_resident_memory_bytes", "Resident memory.", resident * 1024);
    }
    if let Some(size) = kibibytes("VmSize") {
        page.gauge("process_virtual_memory_bytes", "Virtual memory.", size * 1024);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        page.gauge("process_open_fds", "Open file descriptors.", files.count() as u64);
    }
}

/// See [`Metrics::network`].
#[derive(Clone, Copy, Debug, Default)]
pub struct NetworkChange {
    /// Connections opened less those closed.
    pub connections: i64,
    /// Bytes read.
    pub bytes_received: u64,
    /// Bytes written.
    pub bytes_sent: u64,
}

/// The text under construction. Writing to a `String` cannot fail, so those results are dropped here and only here.
struct Page(String);

impl Page {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.0.write_fmt(line).expect("invariant: a String takes any text");
        self.0.push('\n');
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "gauge");
        self.line(format_args!("{name} {value}"));
    }

    fn signed(&mut self, name: &str, help: &str, value: i64) {
        self.head(name, help, "gauge");
        self.line(format_args!("{name} {value}"));
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "counter");
        self.line(format_args!("{name} {value}"));
    }

    fn labelled(&mut self, name: &str, help: &str, label: &str) {
        self.head(name, help, "gauge");
        self.line(format_args!("{name}{{{label}}} 1"));
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, help, "histogram");
        let mut below = 0;
        for (bound, bucket) in DISK_BUCKETS.iter().zip(&histogram.buckets) {
            below += bucket.load(Relaxed);
            self.line(format_args!("{name}_bucket{{le=\"{}\"}} {below}", bound.as_secs_f64()));
        }
        let count = histogram.count.load(Relaxed);
        self.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {count}"));
        let sum = Duration::from_nanos(histogram.nanoseconds.load(Relaxed)).as_secs_f64();
        self.line(format_args!("{name}_sum {sum}"));
        self.line(format_args!("{name}_count {count}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_each_duration_in_its_bucket() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(100));
        histogram.observe(Duration::from_micros(125));
        histogram.observe(Duration::from_micros(126));
        histogram.observe(Duration::from_secs(3600));
        let mut page = Page(String::new());
        page.histogram("h", "Help.", &histogram);
        assert!(page.0.contains("h_bucket{le=\"0.000125\"} 2\n"), "{}", page.0);
        assert!(page.0.contains("h_bucket{le=\"0.00025\"} 3\n"), "{}", page.0);
        assert!(page.0.contains("h_bucket{le=\"+Inf\"} 4\n"), "{}", page.0);
        assert!(page.0.contains("h_count 4\n"), "{}", page.0);
    }
}
