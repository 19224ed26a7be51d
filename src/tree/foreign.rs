//! May a page's bytes be read at all? For those that another process has made.
//!
//! Everything else trusts a page's offsets and lengths, and a page that lies about them would end the process. A checksum
//! does not help against a sender who computes one. So a page that comes from elsewhere passes here first, and only what
//! [`node`] returns is looked at as a page. So does one of a file that is looked at for damage (`verify`).
//!
//! What it does not do: compare keys, or look at any other page. `assemble` does.

use super::cell::{
    BRANCH_HEAD_BYTES, FLAG_COUNTED, FLAG_KEY_IN_RUN, FLAG_VALUE_IN_RUN, KEY_LEN_AT,
    LEAF_HEAD_BYTES, RUN_REF_BYTES, VALUE_LEN_AT,
};
use super::check::{Damage, check_heads, check_layout, ensure};
use super::page::{
    BODY_BYTES, CELLS_AT, COMMON_AT, COMMON_BYTES_MAX, HEADER_BYTES, HEAP_START_AT, HOLES_AT,
    KEY_PREFIX_BYTES, KIND_AT, KIND_BRANCH, KIND_LEAF, Node, SLOT_BYTES, SLOT_OFFSET_AT,
    USABLE_BYTES, u16_at,
};
use crate::ids::PageId;

/// The leaf or branch that `body` is, sound by itself; `page` is what a complaint calls it.
pub(super) fn node(page: PageId, body: &[u8; BODY_BYTES]) -> Result<Box<Node>, Damage> {
    let kind = body[KIND_AT];
    ensure!([KIND_LEAF, KIND_BRANCH].contains(&kind), page, "a leaf or a branch", kind);
    let common = usize::from(body[COMMON_AT]);
    ensure!(
        common <= COMMON_BYTES_MAX,
        page,
        format!("a common prefix up to {COMMON_BYTES_MAX}"),
        common
    );
    let (cells, start) = (u16_at(body, CELLS_AT), u16_at(body, HEAP_START_AT));
    let slots_end = HEADER_BYTES + cells * SLOT_BYTES;
    ensure!(slots_end <= BODY_BYTES, page, "slots within the page", format!("{cells} cells"));
    ensure!(
        (slots_end..=BODY_BYTES).contains(&start),
        page,
        format!("cells from {slots_end} on, up to {BODY_BYTES}"),
        start
    );
    let (gap, holes) = (start - slots_end, u16_at(body, HOLES_AT));
    ensure!(gap + holes <= USABLE_BYTES, page, "holes within the page", holes);
    for cell in 0..cells {
        let at = u16_at(body, HEADER_BYTES + cell * SLOT_BYTES + SLOT_OFFSET_AT);
        let bytes = body.get(at..).filter(|_| at >= start);
        let bytes = bytes.ok_or_else(|| {
            Damage::new(page, format!("a cell from {start} on, up to {BODY_BYTES}"), at)
        })?;
        if kind == KIND_LEAF { leaf_cell(page, bytes)? } else { branch_cell(page, bytes)? }
    }
    let node = Box::new(Node::from_body(*body));
    check_layout(page, &node)?;
    check_heads(page, &node)?;
    Ok(node)
}

/// The record that begins `bytes`, the rest of its page.
fn leaf_cell(page: PageId, bytes: &[u8]) -> Result<(), Damage> {
    ensure!(bytes.len() >= LEAF_HEAD_BYTES, page, "a record", "the end of the page");
    let (flags, value_len) = (bytes[0], u16_at(bytes, VALUE_LEN_AT));
    let known = FLAG_COUNTED | FLAG_KEY_IN_RUN | FLAG_VALUE_IN_RUN;
    ensure!(flags & !known == 0, page, "a record's flags", flags);
    let is_run = flags & FLAG_VALUE_IN_RUN != 0;
    ensure!(!is_run || value_len == RUN_REF_BYTES, page, "a run reference", value_len);
    let key_len = key_len(page, bytes)?;
    let end = LEAF_HEAD_BYTES + key_len + value_len;
    ensure!(end <= bytes.len(), page, "a record within the page", end);
    Ok(())
}

/// The same, of a child.
fn branch_cell(page: PageId, bytes: &[u8]) -> Result<(), Damage> {
    ensure!(bytes.len() >= BRANCH_HEAD_BYTES, page, "a child", "the end of the page");
    ensure!(bytes[0] & !FLAG_KEY_IN_RUN == 0, page, "a child's flags", bytes[0]);
    let end = BRANCH_HEAD_BYTES + key_len(page, bytes)?;
    ensure!(end <= bytes.len(), page, "a child within the page", end);
    Ok(())
}

/// The length of a cell's key part; one in a run leaves a fixed one.
fn key_len(page: PageId, cell: &[u8]) -> Result<usize, Damage> {
    const IN_RUN: usize = KEY_PREFIX_BYTES + RUN_REF_BYTES;
    let (is_run, len) = (cell[0] & FLAG_KEY_IN_RUN != 0, u16_at(cell, KEY_LEN_AT));
    ensure!(!is_run || len == IN_RUN, page, format!("a key part of {IN_RUN} bytes"), len);
    Ok(len)
}
