//! Whole sessions, and what goes wrong in them.

use std::collections::{BTreeMap, BTreeSet};

use super::pair::{Disturbance, Ending, Plan, run};
use super::world::{Source, Store};
use crate::error::ErrorCode;
use crate::limits;
use crate::session::{ReceiverInput, SenderInput, SessionError};
use crate::wire::message::EntryKind;

const MIB: u64 = limits::BLOCK_MIN_BYTES;

/// Runs a plan on a fresh store and checks that everything arrived but what may fail.
fn transfer(source: &mut Source, plan: &Plan) -> BTreeMap<u32, ErrorCode> {
    let mut store = Store::default();
    let failed = run(source, &mut store, plan).failed();
    store.assert_holds(source, &failed.keys().copied().collect());
    failed
}

#[test]
fn files_of_every_size_arrive() {
    for size in [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB + 123] {
        for seed in 0..4 {
            let plan = Plan {
                seed,
                ..Plan::default()
            };
            assert!(transfer(&mut Source::files(&[size]), &plan).is_empty());
        }
    }
}

#[test]
fn the_receipt_counts_entries_and_bytes() {
    let mut source = Source::files(&[0, 10, MIB]);
    source.push(EntryKind::Directory);
    source.push(EntryKind::Symlink {
        target: b"entry-1".to_vec(),
    });
    let mut store = Store::default();
    let report = run(&mut source, &mut store, &Plan::default());
    let receipt = report.sender.conclusion().receipt;
    assert_eq!(
        (receipt.entries, receipt.failed, receipt.bytes),
        (5, 0, MIB + 10)
    );
    assert_eq!(report.sender, report.receiver);
}

#[test]
fn a_large_tree_is_offered_no_further_than_the_window() {
    let mut source = Source::files(&[7; 9000]);
    source.push(EntryKind::Directory);
    let mut store = Store::default();
    let report = run(&mut source, &mut store, &Plan::default());
    assert!(report.failed().is_empty());
    store.assert_holds(&source, &BTreeSet::new());
    assert!(
        report.most_open <= limits::WINDOW_MAX_ENTRIES,
        "{} open",
        report.most_open
    );
    assert!(
        report.most_open > limits::BATCH_MAX_ENTRIES,
        "{} open",
        report.most_open
    );
}

#[test]
fn a_tree_of_the_longest_paths_is_cut_into_messages_that_fit() {
    let mut source = Source::files(&[]);
    for number in 0..400 {
        source.push(EntryKind::Symlink {
            target: vec![b'x'; limits::PATH_MAX_BYTES],
        });
        let names = vec!["n".repeat(limits::NAME_MAX_BYTES); 15].join("/");
        let path = format!("{number}/{names}").into_bytes();
        source.entries[number].path = path.try_into().unwrap();
    }
    assert!(transfer(&mut source, &Plan::default()).is_empty());
}

#[test]
fn a_cut_at_any_step_is_resumed_and_nothing_proven_is_sent_again() {
    let mut source = Source::files(&[3 * MIB + 5, 0, 1, MIB + 1]);
    source.push(EntryKind::Directory);
    let total: u64 = source
        .entries
        .iter()
        .filter_map(|e| e.plan())
        .map(|p| p.count())
        .sum();
    let whole = Plan {
        batch: 2,
        ..Plan::default()
    };
    let steps = run(&mut source, &mut Store::default(), &whole).steps;
    assert!(steps > 30);
    for cut in 0..steps {
        let mut store = Store::default();
        let report = run(
            &mut source,
            &mut store,
            &Plan {
                cut: Some(cut),
                ..whole.clone()
            },
        );
        assert!(report.sender == Ending::Cut || report.receiver == Ending::Cut);
        let held = store.proven_blocks();
        let report = run(&mut source, &mut store, &whole);
        assert!(report.failed().is_empty());
        store.assert_holds(&source, &BTreeSet::new());
        assert_eq!(held + report.records, total, "cut at {cut}");
    }
}

#[test]
fn a_damaged_block_is_asked_for_again() {
    for seed in 0..20 {
        let damage = BTreeMap::from([((0, 1), limits::ENTRY_MAX_REPEATS)]);
        let plan = Plan {
            seed,
            damage,
            ..Plan::default()
        };
        let mut store = Store::default();
        let mut source = Source::files(&[2 * MIB + 1, 5]);
        let report = run(&mut source, &mut store, &plan);
        assert!(report.failed().is_empty());
        assert_eq!(report.records, 4 + u64::from(limits::ENTRY_MAX_REPEATS));
        store.assert_holds(&source, &BTreeSet::new());
    }
}

#[test]
fn a_block_that_stays_damaged_fails_its_entry_only() {
    for seed in 0..20 {
        let damage = BTreeMap::from([((1, 0), limits::ENTRY_MAX_REPEATS + 1)]);
        let plan = Plan {
            seed,
            damage,
            ..Plan::default()
        };
        let failed = transfer(&mut Source::files(&[5, MIB + 5, 5]), &plan);
        assert_eq!(failed, BTreeMap::from([(1, ErrorCode::HashMismatch)]));
    }
}

#[test]
fn a_source_that_changes_while_it_is_sent_fails_its_entry_or_was_sent_before() {
    let mut changed = 0;
    for at in 0..40 {
        let disturb = Some((at, Disturbance::Change(0, false)));
        let mut source = Source::files(&[2 * MIB, 5]);
        let before = source.clone();
        let mut store = Store::default();
        let report = run(
            &mut source,
            &mut store,
            &Plan {
                disturb,
                ..Plan::default()
            },
        );
        let failed = report.failed();
        // Read before or after the change, never half of each.
        match failed.get(&0) {
            Some(code) => {
                assert_eq!(*code, ErrorCode::SourceChanged);
                changed += 1;
            }
            None => {
                let (entry, bytes) = &store.named[&source.entries[0].path];
                let now = entry == &source.entries[0] && bytes == &source.bytes[0];
                assert!(now || bytes == &before.bytes[0]);
            }
        }
    }
    assert!(changed > 3, "only {changed} runs noticed");
}

#[test]
fn held_blocks_that_the_source_does_not_have_fail_the_entry() {
    let mut source = Source::files(&[3 * MIB, 5]);
    let mut store = Store::default();
    let mut cut = 0;
    while store.proven_blocks() < 2 {
        store = Store::default();
        run(
            &mut source,
            &mut store,
            &Plan {
                cut: Some(cut),
                ..Plan::default()
            },
        );
        cut += 1;
    }
    source.change(0, true);
    let failed = run(&mut source, &mut store, &Plan::default()).failed();
    assert_eq!(failed, BTreeMap::from([(0, ErrorCode::SourceChanged)]));
    assert!(!store.named.contains_key(&source.entries[0].path));
}

#[test]
fn a_refused_entry_leaves_the_others_alone() {
    let mut source = Source::files(&[5, MIB, 5]);
    let mut store = Store::default();
    store
        .refused
        .insert(source.entries[1].path.clone(), ErrorCode::TargetExists);
    let report = run(&mut source, &mut store, &Plan::default());
    assert_eq!(
        report.failed(),
        BTreeMap::from([(1, ErrorCode::TargetExists)])
    );
    assert_eq!(report.records, 2);
    store.assert_holds(&source, &BTreeSet::from([1]));
}

#[test]
fn the_inbound_limit_is_exact() {
    for (limit, expected) in [(MIB + 10, vec![]), (MIB + 9, vec![1]), (9, vec![0, 1])] {
        for batch in [1, 2] {
            let mut source = Source::files(&[10, MIB]);
            let mut store = Store::default();
            let plan = Plan {
                limit: Some(limit),
                batch,
                ..Plan::default()
            };
            let report = run(&mut source, &mut store, &plan);
            let failed = report.failed();
            assert_eq!(failed.keys().copied().collect::<Vec<_>>(), expected);
            assert!(
                failed
                    .values()
                    .all(|code| *code == ErrorCode::OverInboundLimit)
            );
            let refused = |entry: &u32| !report.prepared.contains(entry);
            assert!(
                expected.iter().all(refused),
                "prepared before it was refused"
            );
            assert_eq!(report.prepared.len() + expected.len(), 2);
        }
    }
}

#[test]
fn a_source_that_fails_crosses_whatever_the_receiver_says() {
    let mut codes = BTreeSet::new();
    for seed in 0..6 {
        for at in 0..50 {
            let input = SenderInput::SourceFailed {
                entry: 0,
                code: ErrorCode::FileSystem,
            };
            let damage = BTreeMap::from([((0, 0), 2)]);
            let disturb = Some((at, Disturbance::Sender(input)));
            let plan = Plan {
                seed,
                damage,
                disturb,
                ..Plan::default()
            };
            let failed = transfer(&mut Source::files(&[MIB + 1, 5]), &plan);
            assert!(failed.keys().all(|entry| *entry == 0));
            codes.insert(failed.get(&0).copied().map(ErrorCode::number));
        }
    }
    let file_system = Some(ErrorCode::FileSystem.number());
    assert_eq!(codes, BTreeSet::from([None, file_system]));
}

#[test]
fn a_target_that_fails_crosses_whatever_the_sender_says() {
    let mut codes = BTreeSet::new();
    for seed in 0..6 {
        for at in 0..50 {
            let input = ReceiverInput::TargetFailed {
                entry: 0,
                code: ErrorCode::NoSpace,
            };
            let disturb = Some((at, Disturbance::Receiver(input)));
            let plan = Plan {
                seed,
                disturb,
                ..Plan::default()
            };
            let mut store = Store::default();
            let mut source = Source::files(&[MIB + 1, 5]);
            let failed = run(&mut source, &mut store, &plan).failed();
            assert!(failed.keys().all(|entry| *entry == 0));
            codes.insert(failed.get(&0).copied().map(ErrorCode::number));
        }
    }
    assert_eq!(
        codes,
        BTreeSet::from([None, Some(ErrorCode::NoSpace.number())])
    );
}

#[test]
fn a_stop_of_the_sender_at_any_step_ends_both_sides() {
    for at in 0.. {
        let input = SenderInput::Stop(ErrorCode::Interrupted);
        let disturb = Some((at, Disturbance::Sender(input)));
        let mut source = Source::files(&[MIB + 1, 0]);
        let mut store = Store::default();
        let report = run(
            &mut source,
            &mut store,
            &Plan {
                disturb,
                ..Plan::default()
            },
        );
        if report.steps <= at {
            break;
        }
        let ours = Ending::Failed(SessionError::Ours(ErrorCode::Interrupted));
        let theirs = Ending::Failed(SessionError::Peer(ErrorCode::Interrupted));
        match report.receiver {
            // The receipt crossed the stop.
            Ending::Concluded(_) => store.assert_holds(&source, &BTreeSet::new()),
            receiver => assert_eq!((report.sender, receiver), (ours, theirs)),
        }
    }
}

#[test]
fn a_stop_of_the_receiver_at_any_step_ends_both_sides() {
    for at in 0.. {
        let input = ReceiverInput::Stop(ErrorCode::Terminated);
        let disturb = Some((at, Disturbance::Receiver(input)));
        let mut source = Source::files(&[MIB + 1, 0]);
        let mut store = Store::default();
        let report = run(
            &mut source,
            &mut store,
            &Plan {
                disturb,
                ..Plan::default()
            },
        );
        if matches!(report.receiver, Ending::Concluded(_)) {
            assert_eq!(report.sender, report.receiver);
            break;
        }
        let ours = Ending::Failed(SessionError::Ours(ErrorCode::Terminated));
        let theirs = Ending::Failed(SessionError::Peer(ErrorCode::Terminated));
        assert_eq!((report.receiver, report.sender), (ours, theirs));
    }
}
