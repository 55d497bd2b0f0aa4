use super::*;

fn schedule(cron: &str, zone: &str) -> config::Schedule {
    config::Schedule { cron: cron.into(), time_zone: zone.into(), ..config::Schedule::default() }
}

fn timetable(cron: &str, zone: &str) -> Timetable {
    Timetable::read(&schedule(cron, zone), "main").unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn made(scheduled: &str) -> Before {
    Before { scheduled: Some(at(scheduled)), completed: Some(at(scheduled)) }
}

const UP: &str = "2026-11-20T00:00:00Z";

#[test]
fn nothing_is_due_before_its_time_and_nothing_twice() {
    let hourly = timetable("17 * * * *", "UTC");
    let due = |before: &str, now: &str| due(&hourly, made(before), at(UP), false, at(now));
    assert_eq!(due("2026-11-23T09:17:00Z", "2026-11-23T10:16:59Z"), None);
    let ten = at("2026-11-23T10:17:00Z");
    assert_eq!(due("2026-11-23T09:17:00Z", "2026-11-23T10:17:00Z"), Some(Due::Scheduled(ten)));
    assert_eq!(due("2026-11-23T10:17:00Z", "2026-11-23T10:17:00Z"), None);
}

#[test]
fn instants_that_were_missed_are_made_up_once_or_let_go() {
    let before = made("2026-11-23T01:17:00Z");
    let now = at("2026-11-23T10:30:00Z");
    let (started, newest) = (at("2026-11-23T10:29:00Z"), at("2026-11-23T10:17:00Z"));
    let mut schedule = schedule("17 * * * *", "UTC");
    schedule.on_start = OnStart::Never;
    let run_once = Timetable::read(&schedule, "main").unwrap();
    assert_eq!(due(&run_once, before, started, true, now), Some(Due::Scheduled(newest)));
    schedule.missed = Missed::Skip;
    let skip = Timetable::read(&schedule, "main").unwrap();
    assert_eq!(due(&skip, before, started, true, now), None);
    assert_eq!(
        due(&skip, before, at(UP), false, now),
        Some(Due::Scheduled(newest)),
        "it came while the process was up"
    );
}

#[test]
fn a_start_scans_where_the_results_are_stale() {
    let daily = timetable("0 6 * * *", "UTC");
    let (now, six) = (at("2026-11-23T10:00:00Z"), at("2026-11-23T06:00:00Z"));
    let due = |before: Before, is_starting: bool| due(&daily, before, now, is_starting, now);
    let never = Before::default();
    assert_eq!(due(never, true), Some(Due::Stale(Some(six))), "a new installation does not wait for tomorrow");
    assert_eq!(due(never, false), None);
    let failed = Before { scheduled: Some(six), completed: Some(at("2026-11-22T06:00:01Z")) };
    assert_eq!(due(failed, true), Some(Due::Stale(None)));
    assert_eq!(due(failed, false), None, "the next instant may do");
    let fresh = Before { scheduled: Some(six), completed: Some(at("2026-11-23T06:00:01Z")) };
    assert_eq!(due(fresh, true), None);
    let mut schedule = schedule("0 6 * * *", "UTC");
    schedule.on_start = OnStart::Never;
    let patient = Timetable::read(&schedule, "main").unwrap();
    assert_eq!(super::due(&patient, never, now, true, now), None);
}

#[test]
fn a_clock_that_steps_back_makes_nothing_twice_and_one_that_was_far_ahead_makes_nobody_wait() {
    let hourly = timetable("17 * * * *", "UTC");
    let before = |scheduled: Option<&str>| Before { scheduled: scheduled.map(at), completed: None };
    // 10:17 was scanned, and the clock is at 10:09 again: the store tells of what is not in the future.
    assert_eq!(due(&hourly, before(Some("2026-11-23T09:17:00Z")), at(UP), false, at("2026-11-23T10:09:00Z")), None);
    assert_eq!(due(&hourly, before(Some("2026-11-23T10:17:00Z")), at(UP), false, at("2026-11-23T10:19:00Z")), None);
    // A scan for the next year, of a clock that was a year ahead, is not seen.
    let now = at("2026-11-23T11:17:00Z");
    assert_eq!(due(&hourly, before(Some("2026-11-23T10:17:00Z")), at(UP), false, now), Some(Due::Scheduled(now)));
}

#[test]
fn a_daily_scan_follows_the_local_clock_through_both_changes() {
    let daily = timetable("0 9 * * *", "Europe/Berlin");
    for (last, next) in
        [("2026-03-28T08:00:00Z", "2026-03-29T07:00:00Z"), ("2026-10-24T07:00:00Z", "2026-10-25T08:00:00Z")]
    {
        assert_eq!(daily.next_after(at(last)), Some(at(next)));
        assert_eq!(daily.newest_until(at(next)), Some(at(next)));
        assert_eq!(daily.newest_until(at(next) - TimeDelta::seconds(1)), Some(at(last)));
    }
}

/// Every instant between two, found forwards and backwards.
fn instants(timetable: &Timetable, from: &str, to: &str) -> Vec<String> {
    let (from, to) = (at(from), at(to));
    let forwards = std::iter::successors(timetable.next_after(from), |last| timetable.next_after(*last));
    let forwards: Vec<_> = forwards.take_while(|instant| *instant <= to).collect();
    let before = |instant: DateTime<Utc>| timetable.newest_until(instant - TimeDelta::microseconds(1));
    let mut backwards: Vec<_> = std::iter::successors(timetable.newest_until(to), |last| before(*last))
        .take_while(|instant| *instant > from)
        .collect();
    backwards.reverse();
    assert_eq!(forwards, backwards, "both ways lead to the same instants");
    forwards.iter().map(|instant| instant.format("%m-%dT%H:%M").to_string()).collect()
}

#[test]
fn an_hour_that_comes_twice_or_never_has_the_scans_that_a_person_expects() {
    // Berlin: 2026-03-29 has no 02:00 to 03:00 (01:00Z), 2026-10-25 has it twice (00:00Z and 01:00Z).
    let half_past_two = timetable("30 2 * * *", "Europe/Berlin");
    let spring = instants(&half_past_two, "2026-03-28T00:00:00Z", "2026-03-31T00:00:00Z");
    assert_eq!(spring.len(), 3, "one a day, also on the day that lacks the hour: {spring:?}");
    let autumn = instants(&half_past_two, "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
    assert_eq!(autumn.len(), 2, "one a day, also on the day that has the hour twice: {autumn:?}");
    let hourly = timetable("17 * * * *", "Europe/Berlin");
    for (from, to) in
        [("2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"), ("2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z")]
    {
        assert_eq!(instants(&hourly, from, to).len(), 24, "every hour has its scan, by no clock but time itself");
    }
}

#[test]
fn a_delay_is_the_same_for_all_processes_and_no_longer_than_allowed() {
    let mut schedule = schedule("17 * * * *", "UTC");
    schedule.jitter = config::TimeSpan(Duration::from_mins(10));
    let (one, other) = (Timetable::read(&schedule, "one").unwrap(), Timetable::read(&schedule, "other").unwrap());
    let instant = at("2026-11-23T10:17:00Z");
    let delay = one.delayed(instant) - instant;
    assert!(delay > TimeDelta::zero() && delay <= TimeDelta::minutes(10), "{delay}");
    assert_ne!(one.delayed(instant), other.delayed(instant));
    assert_eq!(one.newest_until(instant + delay), Some(instant));
    let earlier = at("2026-11-23T09:17:00Z");
    assert_eq!(one.newest_until(instant + delay - TimeDelta::microseconds(1)), Some(earlier));
    assert_eq!(one.next_after(instant + TimeDelta::microseconds(1)), Some(instant + delay));
}

#[test]
fn a_scan_is_overdue_when_its_time_is_over_and_this_process_has_had_it() {
    let (hourly, daily) = (timetable("17 * * * *", "UTC"), timetable("17 6 * * *", "UTC"));
    let longest = TimeDelta::hours(6);
    let overdue = |timetable: &Timetable, completed: &str, up_since: &str, now: &str| {
        is_overdue(timetable, longest, Some(at(completed)), None, at(up_since), at(now))
    };
    // 10:17 was not completed; it has until 11:17.
    assert!(!overdue(&hourly, "2026-11-23T09:17:01Z", UP, "2026-11-23T11:16:59Z"));
    assert!(overdue(&hourly, "2026-11-23T09:17:01Z", UP, "2026-11-23T11:17:00Z"));
    assert!(!overdue(&hourly, "2026-11-23T10:17:01Z", UP, "2026-11-23T11:17:00Z"));
    assert!(
        !overdue(&hourly, "2026-11-23T09:17:01Z", "2026-11-23T11:00:00Z", "2026-11-23T11:30:00Z"),
        "it has just started"
    );
    assert!(overdue(&hourly, "2026-11-23T09:17:01Z", "2026-11-23T11:00:00Z", "2026-11-23T12:00:00Z"));
    // A daily one is not waited for until tomorrow.
    assert!(!overdue(&daily, "2026-11-22T06:17:01Z", UP, "2026-11-23T12:16:59Z"));
    assert!(overdue(&daily, "2026-11-22T06:17:01Z", UP, "2026-11-23T12:17:00Z"));
    assert!(is_overdue(&daily, longest, None, None, at(UP), at("2026-11-23T12:17:00Z")), "there was never one");
    // A process that ends again and again has had the time all the same.
    let restarting = |completed: Option<&str>, unfinished_since| {
        let (up, now) = (at("2026-11-23T12:10:00Z"), at("2026-11-23T12:20:00Z"));
        is_overdue(&daily, longest, completed.map(at), Some(at(unfinished_since)), up, now)
    };
    for completed in [None, Some("2026-11-21T06:17:01Z")] {
        assert!(restarting(completed, "2026-11-23T06:17:02Z"));
        assert!(restarting(completed, "2026-11-22T06:17:01Z"), "nor was the one before completed");
        assert!(!restarting(completed, "2026-11-23T12:10:01Z"), "it was down, and makes up for it");
    }
    // With a delay it has as long from when it begins.
    let mut delayed = schedule("17 6 * * *", "UTC");
    delayed.jitter = config::TimeSpan(Duration::from_hours(1));
    let delayed = Timetable::read(&delayed, "main").unwrap();
    let begins = delayed.next_after(at("2026-11-23T06:00:00Z")).unwrap();
    assert!(begins > at("2026-11-23T06:17:00Z"));
    let late = |now| is_overdue(&delayed, longest, Some(at("2026-11-22T08:00:00Z")), None, at(UP), now);
    assert!(!late(begins + longest - TimeDelta::seconds(1)));
    assert!(late(begins + longest));
}
