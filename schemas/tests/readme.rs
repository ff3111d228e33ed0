//! What `README.md` publishes holds.
#![allow(clippy::unwrap_used)]

use sluice_schemas::ids::{MESSAGE_NAMESPACE, message_id};
use sluice_schemas::placement::{murmur2, partition_for};

const README: &str = include_str!("../README.md");

/// Cells of the rows of the table under this heading row, without the code marks.
fn table(heading: &str) -> Vec<Vec<String>> {
    let (_, rest) = README.split_once(heading).expect("the table is there");
    rest.lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
        })
        .collect()
}

#[test]
fn the_published_partitions_are_ours() {
    let rows = table("| key | murmur2 | of 8 | of 96 |");
    assert_eq!(rows.len(), 6);
    for row in rows {
        let key = row[0].as_bytes();
        assert_eq!((murmur2(key) as i32).to_string(), row[1], "{}", row[0]);
        assert_eq!(partition_for(key, 8).to_string(), row[2], "{}", row[0]);
        assert_eq!(partition_for(key, 96).to_string(), row[3], "{}", row[0]);
    }
}

#[test]
fn the_published_message_ids_are_ours() {
    let rows = table("| session_id | idempotency_key | message_id |");
    assert_eq!(rows.len(), 4);
    for row in rows {
        let text = |cell: &str| if cell == "(empty)" { String::new() } else { cell.to_owned() };
        assert_eq!(message_id(&text(&row[0]), &text(&row[1])).to_string(), row[2]);
    }
    assert!(README.contains(&format!("UUIDv5({MESSAGE_NAMESPACE}, ")));
}
