use super::*;

fn error(remedy: Remedy) -> AwsError {
    AwsError { remedy, ..deadline_passed(Operation::ListAnalyzers) }
}

fn limits() -> Limits {
    limits_of(&config::Limits { attempts: 3, ..config::Limits::default() })
}

fn limits_of(limits: &config::Limits) -> Limits {
    Limits::new(Arc::new(ProcessLimits::new(limits)))
}

fn soon() -> Instant {
    Instant::now() + Duration::from_hours(1)
}

/// Makes a call whose every attempt fails with this remedy; how often it was made.
async fn attempts_at(calls: &Calls<'_>, remedy: Remedy) -> u32 {
    let mut made = 0;
    let result: Result<(), _> = calls
        .call(Operation::ListAnalyzers, || {
            made += 1;
            async move { Err(error(remedy)) }
        })
        .await;
    assert!(result.is_err());
    made
}

#[test]
fn every_operation_has_a_rate_and_every_rate_an_operation() {
    let rates = config::Limits::default().rates;
    let operations: std::collections::BTreeSet<&str> = Operation::ALL.iter().map(|one| one.action()).collect();
    assert_eq!(rates.keys().map(String::as_str).collect::<std::collections::BTreeSet<_>>(), operations);
}

#[tokio::test(start_paused = true)]
async fn what_a_retry_can_mend_is_tried_again_and_no_more_than_asked() {
    let limits = limits();
    assert_eq!(attempts_at(&limits.in_visit(soon()), Remedy::Again).await, 3);
    let counts = limits.costs().sum(|_| 0).calls;
    assert_eq!((counts[0].calls, counts[0].retries, counts[0].errors), (3, 2, 3));
}

#[tokio::test(start_paused = true)]
async fn what_a_retry_cannot_mend_is_tried_once() {
    assert_eq!(attempts_at(&limits().in_visit(soon()), Remedy::Nothing).await, 1);
    assert_eq!(attempts_at(&limits().in_visit(soon()), Remedy::FreshCredentials).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_clock_is_corrected_once() {
    assert_eq!(attempts_at(&limits().in_visit(soon()), Remedy::CorrectedTime).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_call_that_hangs() {
    let limits = limits();
    let calls = limits.in_visit(Instant::now() + Duration::from_secs(1));
    let result: Result<(), _> =
        calls.call(Operation::ListAnalyzers, std::future::pending::<Result<(), AwsError>>).await;
    assert_eq!(result.unwrap_err().kind, ErrorKind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn a_call_has_a_deadline_of_its_own_that_waiting_for_our_own_rate_does_not_use_up() {
    let mut settings = config::Limits { call_deadline: config::TimeSpan::seconds(3), ..config::Limits::default() };
    settings.rates.insert("sts:AssumeRole".into(), Rate { per_second: 0.1, burst: 1 });
    let limits = limits_of(&settings);
    let calls = limits.in_visit(soon());
    for _ in 0..3 {
        assert_eq!(calls.call(Operation::AssumeRole, || async { Ok(1) }).await, Ok(1));
    }
    let begun = Instant::now();
    let hangs = || std::future::pending::<Result<(), AwsError>>();
    assert_eq!(calls.call(Operation::ListAnalyzers, hangs).await.unwrap_err().kind, ErrorKind::Timeout);
    assert_eq!(begun.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn an_account_that_throttles_slows_nobody_else() {
    let limits = limits();
    let (sick, well) = (limits.in_visit(soon()), limits.in_visit(soon()));
    let throttled =
        AwsError { kind: ErrorKind::Throttled, retry_after: Some(Duration::from_secs(9)), ..error(Remedy::Nothing) };
    let region = Region::new("eu-west-1");
    let sick = sick.in_region(&region);
    let result: Result<(), _> = sick.call(Operation::ListAnalyzers, || async { Err(throttled.clone()) }).await;
    assert_eq!(result.unwrap_err().kind, ErrorKind::Throttled);
    let begun = Instant::now();
    for _ in 0..10 {
        well.in_region(&region).call(Operation::ListAnalyzers, || async { Ok(()) }).await.unwrap();
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    sick.call(Operation::ListAnalyzers, || async { Ok(()) }).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(9), "its own next call waits as long as AWS asked");
}

#[tokio::test(start_paused = true)]
async fn callers_keep_their_buckets_from_scan_to_scan_and_share_them() {
    let settings = config::Limits::default();
    let process_limits = Arc::new(ProcessLimits::new(&settings));
    let caller: AccountId = "111111111111".parse().unwrap();
    let begun = Instant::now();
    for _ in 0..4 {
        let limits = Limits::new(Arc::clone(&process_limits));
        let calls = limits.from_caller(caller, soon());
        for _ in 0..7 {
            calls.call(Operation::ListAccounts, || async { Ok(()) }).await.unwrap();
        }
    }
    assert_eq!(begun.elapsed().as_secs(), 2, "28 calls at 8 a second after a burst of 12");
}

#[tokio::test(start_paused = true)]
async fn one_account_that_always_fails_costs_no_other_account_a_retry() {
    let limits = limits_of(&config::Limits::default());
    let region = Region::new("eu-west-1");
    for _ in 0..50 {
        assert_eq!(attempts_at(&limits.in_visit(soon()).in_region(&region), Remedy::Again).await, 6);
        let mut made = 0;
        let calls = limits.in_visit(soon()).in_region(&region);
        let fails_but_the_last = calls.call(Operation::ListAnalyzers, || {
            made += 1;
            let is_last = made == 6;
            async move { if is_last { Ok(()) } else { Err(error(Remedy::Again)) } }
        });
        assert_eq!(fails_but_the_last.await, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_region_that_is_out_is_soon_asked_once_and_others_as_ever() {
    let limits = limits_of(&config::Limits::default());
    let region = Region::new("eu-west-1");
    let mut made = 0;
    for _ in 0..1000 {
        made += attempts_at(&limits.in_visit(soon()).in_region(&region), Remedy::Again).await;
    }
    assert!(made < 200, "{made} attempts for 1,000 calls, not 6,000");
    let other = Region::new("us-east-1");
    assert_eq!(attempts_at(&limits.in_visit(soon()).in_region(&other), Remedy::Again).await, 6);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_our_own_deadline_cuts_is_no_answer_of_its_region() {
    let second = config::TimeSpan::seconds(1);
    let long = config::TimeSpan::seconds(20);
    let limits =
        limits_of(&config::Limits { attempt_timeout: second, call_deadline: long, ..config::Limits::default() });
    let region = Region::new("eu-west-1");
    let made = std::sync::atomic::AtomicU32::new(0);
    for _ in 0..100 {
        let calls = limits.in_visit(soon()).in_region(&region);
        let mut number = 0;
        let cut_at_last = calls.call(Operation::ListAnalyzers, || {
            number += 1;
            made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let hangs = number == 6;
            async move { if hangs { std::future::pending().await } else { Err::<(), _>(error(Remedy::Again)) } }
        });
        assert!(cut_at_last.await.is_err());
    }
    let made = made.into_inner();
    assert!(made < 250, "{made} attempts for 100 calls, not 600: the region is out");
}

#[tokio::test(start_paused = true)]
async fn a_call_outlasts_the_time_that_aws_asks_for() {
    let limits = limits();
    let calls = limits.in_visit(soon());
    let mut made = 0;
    let wait = AwsError { retry_after: Some(LONGEST_WAIT), ..error(Remedy::Again) };
    let result = calls.call(Operation::ListAnalyzers, || {
        made += 1;
        let answer = if made == 2 { Ok(()) } else { Err(wait.clone()) };
        async move { answer }
    });
    assert_eq!(result.await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_called_after_the_deadline() {
    let limits = limits();
    assert_eq!(attempts_at(&limits.in_visit(Instant::now()), Remedy::Nothing).await, 0);
    assert!(limits.costs().sum(|_| 0).calls.is_empty());
}

#[tokio::test(start_paused = true)]
async fn no_more_than_allowed_are_in_flight_at_once_and_none_while_it_pauses() {
    let limits = limits_of(&config::Limits { in_flight: 1, attempts: 2, ..config::Limits::default() });
    let calls = limits.in_visit(soon());
    let region = Region::new("eu-west-1");
    let failing = calls.in_region(&region);
    let failing = failing.call(Operation::ListAnalyzers, || async {
        Err::<(), _>(AwsError { retry_after: Some(Duration::from_secs(30)), ..error(Remedy::Again) })
    });
    let begun = Instant::now();
    let quick = async {
        tokio::task::yield_now().await;
        calls.call(Operation::ListRegions, || async { Ok(()) }).await.unwrap();
        begun.elapsed()
    };
    let (failed, took) = tokio::join!(failing, quick);
    assert!(failed.is_err());
    assert_eq!(took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_never_ends_is_an_error() {
    let limits = limits();
    let result = limits
        .in_visit(soon())
        .all_pages(Operation::ListAccounts, |_| async {
            Ok(Page { items: vec![1], next_token: Some("same".to_owned()) })
        })
        .await;
    assert_eq!(result.unwrap_err().kind, ErrorKind::MalformedResponse);
}

#[tokio::test(start_paused = true)]
async fn an_empty_page_with_a_token_is_not_the_end() {
    let limits = limits();
    let pages = limits
        .in_visit(soon())
        .all_pages(Operation::ListAccounts, |token| async move {
            Ok(match token.as_deref() {
                None => Page { items: vec![], next_token: Some("a".to_owned()) },
                Some("a") => Page { items: vec![1], next_token: Some("b".to_owned()) },
                _ => Page { items: vec![2], next_token: None },
            })
        })
        .await;
    assert_eq!(pages.unwrap(), [1, 2]);
}
