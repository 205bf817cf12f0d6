//! The controller on paths that users have. Figures of the paths are those of
//! `docs/PERFORMANCE.md`.

use std::time::Duration;

use super::simulation::{PACKET, Path, Simulation};

const AT_ONCE: Duration = Duration::ZERO;

/// Alone on a path, as fast as the window allows.
fn alone(path: Path, seconds: f64) -> (Simulation, usize) {
    let mut simulation = Simulation::new(path);
    let flow = simulation.add(AT_ONCE, f64::INFINITY);
    simulation.run_until(seconds);
    (simulation, flow)
}

#[test]
fn long_and_lossy_paths_are_filled() {
    for (megabits, round_trip, loss, seconds) in [
        (1000.0, 5, 0.0, 3.0),
        (1000.0, 50, 0.0001, 3.0),
        (500.0, 150, 0.001, 5.0),
        (100.0, 100, 0.01, 12.0),
        (50.0, 20, 0.03, 20.0),
        (2.0, 300, 0.0, 30.0),
    ] {
        let path = Path::new(megabits, round_trip, loss);
        let (simulation, flow) = alone(path, seconds);
        let share = simulation.record(flow).rate(2.0, seconds) / path.rate;
        assert!(share > 0.9, "{path:?}: {share}");
    }
}

#[test]
fn a_path_is_full_after_ten_round_trips() {
    let path = Path::new(1000.0, 50, 0.0001);
    let (simulation, flow) = alone(path, 1.0);
    let share = simulation.record(flow).rate(0.5, 1.0) / path.rate;
    assert!(share > 0.9, "{share}");
}

#[test]
fn the_queue_stays_below_half_of_what_the_path_holds() {
    let mut path = Path::new(200.0, 40, 0.0);
    // As routers with too much memory have.
    path.queue *= 10.0;
    let (simulation, flow) = alone(path, 12.0);
    let wait = simulation.mean_wait(3.0);
    assert!(wait < path.round_trip / 2, "{wait:?}");
    assert_eq!(simulation.record(flow).lost, 0);
}

#[test]
fn a_shallow_queue_costs_few_packets() {
    let mut path = Path::new(200.0, 40, 0.0);
    path.queue /= 10.0;
    let (simulation, flow) = alone(path, 12.0);
    let record = simulation.record(flow);
    let share = record.rate(3.0, 12.0) / path.rate;
    assert!(share > 0.9, "{share}");
    let lost = record.lost as f64 / record.sent as f64;
    assert!(lost < 0.05, "{lost}");
}

#[test]
fn a_rate_that_falls_or_rises_is_followed_within_two_seconds() {
    let (fast, slow) = (Path::new(400.0, 40, 0.0), Path::new(100.0, 40, 0.0));
    let (mut simulation, flow) = alone(fast, 5.0);
    simulation.change(slow);
    simulation.run_until(10.0);
    let wait = simulation.mean_wait(7.0);
    assert!(wait < slow.round_trip, "{wait:?}");
    simulation.change(fast);
    simulation.run_until(15.0);
    let share = simulation.record(flow).rate(12.0, 15.0) / fast.rate;
    assert!(share > 0.85, "{share}");
}

#[test]
fn flows_that_share_a_path_come_to_fair_shares() {
    let path = Path::new(200.0, 40, 0.0);
    let mut simulation = Simulation::new(path);
    let first = simulation.add(AT_ONCE, f64::INFINITY);
    let second = simulation.add(Duration::from_secs(5), f64::INFINITY);
    simulation.run_until(45.0);
    let share = |flow| simulation.record(flow).rate(30.0, 45.0) / path.rate;
    let (a, b) = (share(first), share(second));
    assert!(a + b > 0.9, "{a} and {b}");
    assert!(a > 0.3 && b > 0.3, "{a} and {b}");
}

#[test]
fn a_slow_application_does_not_make_the_path_look_slow() {
    let path = Path::new(400.0, 40, 0.0);
    let (mut simulation, flow) = alone(path, 3.0);
    let window = simulation.control(flow).window();
    let held = path.rate * path.round_trip.as_secs_f64();
    assert!(window as f64 > held, "{window}");
    let mut simulation = Simulation::new(path);
    let flow = simulation.add(AT_ONCE, path.rate / 20.0);
    simulation.run_until(5.0);
    let share = simulation.record(flow).rate(1.0, 5.0) / (path.rate / 20.0);
    assert!(share > 0.95, "{share}");
    assert!(simulation.control(flow).window() < window);
}

#[test]
fn a_sender_that_waits_for_its_processor_fills_most_of_the_path() {
    for (longest_wait, least, most_lost) in [(20, 0.95, 0.03), (60, 0.9, 0.04), (200, 0.5, 0.07)] {
        let path = Path::new(500.0, 150, 0.001);
        let mut simulation = Simulation::new(path);
        let flow = simulation.add(AT_ONCE, f64::INFINITY);
        simulation.share_processor(flow, Duration::from_millis(longest_wait));
        simulation.run_until(20.0);
        let record = simulation.record(flow);
        let share = record.rate(5.0, 19.0) / path.rate;
        assert!(share > least, "{longest_wait} ms: {share}");
        let lost = record.lost as f64 / record.sent as f64;
        assert!(lost < most_lost, "{longest_wait} ms: {lost}");
    }
}

#[test]
fn lateness_of_a_moment_is_forgotten_and_that_of_a_timer_does_not_count() {
    let path = Path::new(200.0, 40, 0.0);
    let (mut simulation, flow) = alone(path, 3.0);
    let at = |seconds: u64| Duration::from_secs(seconds);
    let window = simulation.control(flow).window();
    simulation
        .control(flow)
        .on_late(at(3), Duration::from_millis(4));
    simulation.run_until(3.2);
    assert!(simulation.control(flow).window() <= window * 2);
    assert!(!simulation.control(flow).may_catch_up());
    simulation
        .control(flow)
        .on_late(at(4), Duration::from_millis(500));
    simulation.run_until(5.0);
    let held = path.rate * path.round_trip.as_secs_f64();
    assert!(simulation.control(flow).window() as f64 > 1.5 * held);
    simulation.control(flow).on_late(at(7), Duration::ZERO);
    simulation.run_until(12.0);
    assert!(simulation.mean_wait(9.0) < path.round_trip / 2);
}

#[test]
fn persistent_congestion_starts_from_next_to_nothing() {
    let path = Path::new(400.0, 40, 0.0);
    let (mut simulation, flow) = alone(path, 3.0);
    simulation.control(flow).on_persistent_congestion();
    assert!(simulation.control(flow).window() <= 4 * PACKET);
    simulation.run_until(8.0);
    let share = simulation.record(flow).rate(5.0, 8.0) / path.rate;
    assert!(share > 0.9, "{share}");
}

#[test]
fn the_first_round_trip_carries_no_more_than_the_initial_window() {
    let path = Path::new(1000.0, 200, 0.0);
    let (mut simulation, flow) = alone(path, 0.199);
    let sent = simulation.record(flow).sent;
    assert!(sent <= simulation.control(flow).initial_window(), "{sent}");
}
