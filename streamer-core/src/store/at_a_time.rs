//! Work that waits for another machine, several pieces at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;

/// What `work` makes of each of `items`, in their order; at most `most` at a time, on this thread and as
/// many more as the system grants.
pub(crate) fn at_a_time<T: Sync, R: Send>(
    most: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let threads = most.min(items.len());
    if threads <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        while let Some((at, item)) = {
            let at = next.fetch_add(1, Ordering::Relaxed);
            items.get(at).map(|item| (at, item))
        } {
            done.push((at, work(item)));
        }
        done
    };
    let mut done = std::thread::scope(|scope| {
        let spawn = |_| Builder::new().spawn_scoped(scope, take).ok();
        let running: Vec<_> = (1..threads).map_while(spawn).collect();
        let mut done = take();
        for thread in running {
            let joined = thread.join();
            done.extend(joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn results_come_in_order_and_so_many_run_at_a_time() {
        let items: Vec<usize> = (0..64).collect();
        // Fewer would wait for ever.
        let all_there = Barrier::new(8);
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let results = at_a_time(8, &items, |item| {
            let now = running.fetch_add(1, Ordering::Relaxed) + 1;
            most.fetch_max(now, Ordering::Relaxed);
            all_there.wait();
            running.fetch_sub(1, Ordering::Relaxed);
            item * 2
        });
        assert_eq!(results, (0..64).map(|item| item * 2).collect::<Vec<_>>());
        assert_eq!(most.into_inner(), 8);
        for (most, count) in [(1, 5), (8, 0), (8, 1), (0, 2)] {
            let results = at_a_time(most, &items[..count], |item| *item);
            assert_eq!(results, items[..count]);
        }
    }
}
