//! `-w table`, and the comma-separated lines of the same columns that `-w simple` prints.

use urd_proto::etcdserverpb as pb;

use super::super::endpoint::{EndpointHash, EndpointStatus, Health};
use crate::go;

/// Columns and rows.
#[derive(Debug)]
pub(crate) struct Table {
    heads: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A row a line.
    pub(crate) fn lines(&self) -> String {
        self.rows.iter().map(|row| row.join(", ") + "\n").collect()
    }

    /// With rules around, heads centred in capitals, cells to the right.
    pub(crate) fn ruled(&self) -> String {
        let width = |text: &str| text.chars().count();
        let widths: Vec<usize> = self
            .heads
            .iter()
            .enumerate()
            .map(|(column, head)| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| width(cell)).chain([width(head)]).max().unwrap_or_default()
            })
            .collect();
        let rule: String =
            widths.iter().map(|width| format!("+{}", "-".repeat(width + 2))).collect::<String>()
                + "+\n";
        let heads = self.heads.iter().zip(&widths).map(|(head, width)| {
            let head = head.to_uppercase().replace('_', " ");
            format!("| {head:^width$} ")
        });
        let heads = heads.collect::<String>() + "|\n";
        let rows: String = self
            .rows
            .iter()
            .map(|row| {
                let cells =
                    row.iter().zip(&widths).map(|(cell, width)| format!("| {cell:>width$} "));
                cells.collect::<String>() + "|\n"
            })
            .collect();
        format!("{rule}{heads}{rule}{rows}{}", if rows.is_empty() { "" } else { &rule })
    }
}

pub(super) fn members(answer: &pb::MemberListResponse) -> Table {
    let row = |member: &pb::Member| {
        let status = if member.name.is_empty() { "unstarted" } else { "started" };
        vec![
            format!("{:x}", member.id),
            status.to_owned(),
            member.name.clone(),
            member.peer_ur_ls.join(","),
            member.client_ur_ls.join(","),
            member.is_learner.to_string(),
        ]
    };
    Table {
        heads: &["ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"],
        rows: answer.members.iter().map(row).collect(),
    }
}

pub(super) fn health(endpoints: &[Health]) -> Table {
    let row = |health: &Health| {
        let error = health.error.clone();
        vec![
            health.endpoint.clone(),
            error.is_none().to_string(),
            health.took.clone(),
            error.unwrap_or_default(),
        ]
    };
    Table {
        heads: &["endpoint", "health", "took", "error"],
        rows: endpoints.iter().map(row).collect(),
    }
}

pub(super) fn statuses(endpoints: &[EndpointStatus]) -> Table {
    let row = |EndpointStatus { endpoint, status }: &EndpointStatus| {
        let member = status.header.unwrap_or_default().member_id;
        let size = |bytes: i64| go::show_size(u64::try_from(bytes).unwrap_or(0));
        let unused = match status.db_size {
            0 => 0,
            all => 100 - status.db_size_in_use.saturating_mul(100) / all,
        };
        let downgrade = status.downgrade_info.clone().unwrap_or_default();
        vec![
            endpoint.clone(),
            format!("{member:x}"),
            status.version.clone(),
            status.storage_version.clone(),
            size(status.db_size),
            size(status.db_size_in_use),
            format!("{unused}%"),
            size(status.db_size_quota),
            (status.leader == member).to_string(),
            status.is_learner.to_string(),
            status.raft_term.to_string(),
            status.raft_index.to_string(),
            status.raft_applied_index.to_string(),
            status.errors.join(", "),
            downgrade.target_version,
            downgrade.enabled.to_string(),
        ]
    };
    Table {
        heads: &[
            "endpoint",
            "ID",
            "version",
            "storage version",
            "db size",
            "in use",
            "percentage not in use",
            "quota",
            "is leader",
            "is learner",
            "raft term",
            "raft index",
            "raft applied index",
            "errors",
            "downgrade target version",
            "downgrade enabled",
        ],
        rows: endpoints.iter().map(row).collect(),
    }
}

pub(super) fn hashes(endpoints: &[EndpointHash]) -> Table {
    let row = |EndpointHash { endpoint, hash }: &EndpointHash| {
        vec![endpoint.clone(), hash.hash.to_string(), hash.hash_revision.to_string()]
    };
    Table {
        heads: &["endpoint", "hash", "hash_revision"],
        rows: endpoints.iter().map(row).collect(),
    }
}
