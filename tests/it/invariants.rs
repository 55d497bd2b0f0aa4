//! What must hold in every database, at every instant: `docs/sql.md`. Each query names what breaks the rule.

use trustwatch::store::Store;

use crate::support::rows;

const RULES: &[(&str, &str)] = &[
    (
        "a closed incident has no gap",
        "SELECT incident_id FROM alert_incidents WHERE closed_at IS NOT NULL AND open_account_regions > 0",
    ),
    (
        "an incident has no more gaps than it opened",
        "SELECT incident_id FROM alert_incidents WHERE open_account_regions > account_regions OR account_regions < accounts OR (accounts < 1 AND kind <> 'scan_failed')",
    ),
    (
        "an incident is as severe as its kind",
        "SELECT incident_id FROM alert_incidents
         WHERE severity <> CASE kind WHEN 'coverage_lost' THEN 'high' WHEN 'measured_share_low' THEN 'high' WHEN 'scan_failed' THEN 'high'
               WHEN 'joined_uncovered' THEN 'medium' WHEN 'accounts_unreadable' THEN 'medium' ELSE 'critical' END",
    ),
    (
        "what was delivered was tried, and waits for nothing",
        "SELECT delivery_id FROM alert_deliveries WHERE state <> 'pending' AND (attempts < 1 OR next_attempt_at IS NOT NULL)",
    ),
    (
        "nothing disappears",
        "SELECT scan_id FROM scan_summary
         WHERE state <> 'running' AND account_regions <> covered + not_covered + not_applicable + unknown",
    ),
    (
        "every account is counted",
        "SELECT scan_id FROM scan_summary WHERE state = 'completed'
         AND accounts <> accounts_audited + accounts_unreachable + accounts_not_active + accounts_excluded",
    ),
    (
        "unknown is on neither side",
        "SELECT scan_id FROM scan_summary
         WHERE state <> 'running' AND abs(coverage_ratio - 1.0 * covered / nullif(covered + not_covered, 0)) > 1e-9",
    ),
    (
        "one row for each account × region",
        "SELECT account_id, region FROM current_coverage GROUP BY account_id, region HAVING count(*) <> 1",
    ),
    (
        "every account that was visited in a whole scan has rows, unless it has left since",
        "SELECT v.account_id FROM account_visits AS v
         WHERE v.scan_id = (SELECT max(scan_id) FROM scan_summary WHERE scope = 'all' AND state <> 'running')
         AND NOT EXISTS (SELECT 1 FROM current_coverage AS c WHERE c.account_id = v.account_id)
         AND NOT EXISTS (SELECT 1 FROM coverage_transitions AS t WHERE t.account_id = v.account_id AND t.to_status IS NULL AND t.at >= v.finished_at)",
    ),
    (
        "a reason belongs to one status",
        "SELECT account_id, region, status, reason FROM coverage_history WHERE status <> CASE
           WHEN reason IN ('account_analyzer', 'organization_analyzer', 'account_and_organization_analyzers') THEN 'covered'
           WHEN reason IN ('no_analyzer', 'only_other_analyzer_types', 'analyzer_not_active', 'required_zone_of_trust_missing') THEN 'not_covered'
           WHEN reason IN ('region_not_opted_in', 'region_not_supported', 'account_not_active', 'excluded') THEN 'not_applicable'
           ELSE 'unknown' END",
    ),
    (
        "intervals neither overlap nor leave a hole, unless the account or region was gone",
        "SELECT h.account_id, h.region, h.valid_from FROM (
             SELECT account_id, region, valid_from, valid_to, lead(valid_from) OVER
                 (PARTITION BY organization_id, account_id, region ORDER BY valid_from) AS next
             FROM coverage_history) AS h
         WHERE h.next IS NOT NULL AND (h.valid_to IS NULL OR h.valid_to > h.next OR (h.valid_to < h.next AND NOT EXISTS (
             SELECT 1 FROM coverage_transitions AS t WHERE t.account_id = h.account_id AND t.region = h.region
             AND t.at = h.valid_to AND t.to_status IS NULL)))",
    ),
    (
        "an interval lasts",
        "SELECT account_id, region, valid_from FROM coverage_history WHERE valid_to <= valid_from",
    ),
    (
        "two intervals side by side differ",
        "SELECT a.account_id, a.region FROM coverage_history AS a
         JOIN coverage_history AS b ON b.account_id = a.account_id AND b.region = a.region AND b.valid_from = a.valid_to
         WHERE b.reason = a.reason",
    ),
    (
        "the history replayed is what is current",
        "SELECT account_id, region, status, reason, analyzer_arn, since, last_known_status, last_known_at, scan_id
         FROM current_coverage
         EXCEPT SELECT account_id, region, status, reason, analyzer_arn, valid_from, last_known_status, last_known_at,
                       last_scan_id
         FROM coverage_history WHERE valid_to IS NULL",
    ),
    (
        "what the history has open is current",
        "SELECT account_id, region, status, reason FROM coverage_history WHERE valid_to IS NULL
         EXCEPT SELECT account_id, region, status, reason FROM current_coverage",
    ),
    (
        "each interval begins with its transition",
        "SELECT account_id, region, valid_from, first_scan_id, status, reason FROM coverage_history
         EXCEPT SELECT account_id, region, at, scan_id, to_status, to_reason FROM coverage_transitions",
    ),
    (
        "each transition begins an interval, or ends one",
        "SELECT account_id, region, at, scan_id, to_status, to_reason FROM coverage_transitions WHERE to_status IS NOT NULL
         EXCEPT SELECT account_id, region, valid_from, first_scan_id, status, reason FROM coverage_history",
    ),
    (
        "where a transition comes from is where the interval before ended",
        "SELECT account_id, region, at, from_status, from_reason FROM coverage_transitions WHERE from_status IS NOT NULL
         EXCEPT SELECT account_id, region, valid_to, status, reason FROM coverage_history",
    ),
    (
        "an interval that ended is followed by a transition",
        "SELECT account_id, region, valid_to, status, reason FROM coverage_history WHERE valid_to IS NOT NULL
         EXCEPT SELECT account_id, region, at, from_status, from_reason FROM coverage_transitions",
    ),
    (
        "the cause fits: to or from unknown is visibility, unless we left it out or it joined or left",
        "SELECT account_id, region, at, cause FROM coverage_transitions
         WHERE cause <> 'visibility' AND 'unknown' IN (from_status, to_status) AND from_status IS NOT NULL
           AND to_status IS NOT NULL AND NOT 'excluded' IN (from_reason, to_reason)
         UNION ALL SELECT account_id, region, at, cause FROM coverage_transitions
         WHERE cause = 'visibility' AND NOT 'unknown' IN (coalesce(from_status, ''), coalesce(to_status, ''))",
    ),
    (
        "a change is between known answers that differ",
        "SELECT account_id, region, at FROM coverage_changes
         WHERE 'unknown' IN (from_status, to_status) OR from_reason = to_reason OR cause = 'visibility'
            OR (from_status IS NULL AND to_status IS NULL)",
    ),
    (
        "each change goes on where the one before ended",
        "SELECT account_id, region, at, from_reason, before FROM (
             SELECT account_id, region, at, from_reason, lag(to_reason) OVER
                 (PARTITION BY organization_id, account_id, region ORDER BY at) AS before
             FROM coverage_changes) AS c
         WHERE coalesce(from_reason, '') <> coalesce(before, '')",
    ),
    (
        "exemptions of an account × region do not overlap, and last",
        "SELECT h.account_id, h.region, h.valid_from FROM (
             SELECT account_id, region, valid_from, valid_to, lead(valid_from) OVER
                 (PARTITION BY organization_id, account_id, region ORDER BY valid_from) AS next
             FROM exemption_history) AS h
         WHERE h.valid_to <= h.valid_from OR (h.next IS NOT NULL AND (h.valid_to IS NULL OR h.valid_to > h.next))",
    ),
    (
        "what is exempt has an exemption that holds",
        "SELECT account_id, region, exemption_reason FROM current_coverage WHERE exempt
         EXCEPT SELECT account_id, region, reason FROM exemption_history WHERE valid_to IS NULL",
    ),
    (
        "what is exempt is counted, and counted as what it is",
        "SELECT scan_id FROM scan_summary
         WHERE not_covered_exempt > not_covered OR unknown_exempt > unknown OR not_covered_exempt + unknown_exempt > exempt",
    ),
    (
        "counts of findings do not overlap, and last",
        "SELECT h.analyzer_arn, h.valid_from FROM (
             SELECT analyzer_arn, valid_from, valid_to, lead(valid_from) OVER
                 (PARTITION BY organization_id, analyzer_arn ORDER BY valid_from) AS next
             FROM findings_statistics_history) AS h
         WHERE h.valid_to <= h.valid_from OR (h.next IS NOT NULL AND (h.valid_to IS NULL OR h.valid_to > h.next))",
    ),
    (
        "what is counted by type is no more than what is active",
        "SELECT analyzer_arn FROM findings_statistics_history WHERE public + cross_account > active
         UNION ALL SELECT type FROM findings_by_scan WHERE public + cross_account > active",
    ),
    (
        "what is counted now is of an analyzer that there is",
        "SELECT analyzer_arn FROM findings_statistics_history WHERE valid_to IS NULL
         EXCEPT SELECT analyzer_arn FROM current_analyzers",
    ),
    (
        "intervals of a finding do not overlap, and last",
        "SELECT h.analyzer_arn, h.finding_id FROM (
             SELECT analyzer_arn, finding_id, valid_from, valid_to, lead(valid_from) OVER
                 (PARTITION BY organization_id, analyzer_arn, finding_id ORDER BY valid_from) AS next
             FROM finding_history) AS h
         WHERE h.valid_to <= h.valid_from OR (h.next IS NOT NULL AND (h.valid_to IS NULL OR h.valid_to > h.next))",
    ),
    (
        "what is found now is of an analyzer that there is",
        "SELECT analyzer_arn FROM current_findings EXCEPT SELECT analyzer_arn FROM current_analyzers",
    ),
    (
        "a reading that came to its end says of what, and that was tried",
        "SELECT analyzer_arn FROM findings_readings
         WHERE (read_at IS NULL) <> (detail IS NULL) OR read_at > tried_at OR (problem IS NULL AND read_at < tried_at)",
    ),
    (
        "what is known is known by its own answer",
        "SELECT region FROM current_coverage
         WHERE status <> 'unknown' AND (last_known_status <> status OR last_known_at <> checked_at)",
    ),
    (
        "a gap is as old as the change that opened it",
        "SELECT account_id, region, uncovered_since FROM current_coverage WHERE last_known_status = 'not_covered'
         EXCEPT SELECT account_id, region, max(at) FROM coverage_changes
         WHERE to_status = 'not_covered' AND coalesce(from_status, '') <> 'not_covered'
         GROUP BY organization_id, account_id, region",
    ),
    (
        "what is no gap is none since any instant, and a gap is as old as its reason at least",
        "SELECT account_id, region, uncovered_since FROM current_coverage
         WHERE uncovered_since > since OR (uncovered_since IS NOT NULL) <> (coalesce(last_known_status, '') = 'not_covered')",
    ),
    (
        "nothing is known later than it was looked at",
        "SELECT region FROM current_coverage WHERE last_known_at > checked_at
            OR (since > checked_at AND reason <> 'organization_analyzers_unknown')",
    ),
    (
        "the regions of a scan add up",
        "SELECT s.scan_id FROM scan_summary AS s JOIN (
             SELECT scan_id, sum(covered) AS covered, sum(not_covered) AS not_covered, sum(not_applicable) AS not_applicable,
                    sum(unknown) AS unknown FROM coverage_by_region GROUP BY scan_id) AS r ON r.scan_id = s.scan_id
         WHERE r.covered <> s.covered OR r.not_covered <> s.not_covered OR r.not_applicable <> s.not_applicable
            OR r.unknown <> s.unknown OR s.scope <> 'all'",
    ),
    (
        "the OUs of a scan add up",
        "SELECT s.scan_id FROM scan_summary AS s JOIN (
             SELECT scan_id, sum(covered) AS covered, sum(not_covered) AS not_covered, sum(not_applicable) AS not_applicable,
                    sum(unknown) AS unknown FROM coverage_by_ou GROUP BY scan_id) AS r ON r.scan_id = s.scan_id
         WHERE r.covered <> s.covered OR r.not_covered <> s.not_covered OR r.not_applicable <> s.not_applicable
            OR r.unknown <> s.unknown OR s.scope <> 'all'",
    ),
    (
        "the accounts of a scan add up",
        "SELECT s.scan_id FROM scan_summary AS s JOIN (
             SELECT scan_id, sum(covered) AS covered, sum(not_covered) AS not_covered, sum(not_applicable) AS not_applicable,
                    sum(unknown) AS unknown FROM coverage_by_account GROUP BY scan_id) AS r ON r.scan_id = s.scan_id
         WHERE r.covered <> s.covered OR r.not_covered <> s.not_covered OR r.not_applicable <> s.not_applicable
            OR r.unknown <> s.unknown OR s.scope <> 'all'",
    ),
    (
        "every scan of all accounts has its regions",
        "SELECT scan_id FROM scan_summary WHERE scope = 'all' AND state = 'completed'
         AND (scan_id NOT IN (SELECT scan_id FROM coverage_by_region) OR scan_id NOT IN (SELECT scan_id FROM coverage_by_ou)
              OR scan_id NOT IN (SELECT scan_id FROM coverage_by_account))",
    ),
    (
        "an analyzer is in one state at a time",
        "SELECT analyzer_arn FROM current_analyzers GROUP BY organization_id, analyzer_arn HAVING count(*) <> 1
         UNION ALL SELECT a.analyzer_arn FROM analyzer_history AS a JOIN analyzer_history AS b
         ON b.analyzer_arn = a.analyzer_arn AND b.organization_id = a.organization_id AND b.valid_from > a.valid_from
         WHERE a.valid_to IS NULL OR b.valid_from < a.valid_to OR a.valid_to <= a.valid_from",
    ),
];

/// Of scans whose visits were thinned out, the accounts are no longer all there.
const OF_EVERY_VISIT: [&str; 2] = ["the accounts of a scan add up", "every scan of all accounts has its regions"];

/// Fails if any rule is broken.
pub async fn hold(store: &dyn Store, what: &str) {
    hold_but(store, what, &[]).await;
}

/// The same after old visits were deleted.
pub async fn hold_after_pruning(store: &dyn Store, what: &str) {
    hold_but(store, what, &OF_EVERY_VISIT).await;
}

async fn hold_but(store: &dyn Store, what: &str, but: &[&str]) {
    assert!(but.iter().all(|name| RULES.iter().any(|(rule, _)| rule == name)));
    for (rule, broken) in RULES.iter().filter(|(rule, _)| !but.contains(rule)) {
        let found = rows(store, broken).await;
        assert!(found.is_empty(), "{what}: {rule}: {found:?}");
    }
}
