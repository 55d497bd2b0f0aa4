//! The controls of other frameworks that the same rule answers.

/// The rule in Trend Micro Conformity, from which it comes.
pub const RULE: &str = "IAM-065";

/// The rule, as a title.
pub const TITLE: &str = "IAM Access Analyzer watches the account for external access in every region";

/// Framework and control. No mapping is claimed for NIST 800-53 or PCI DSS: none was found.
pub const CONTROLS: &[(&str, &str)] = &[
    ("Trend Micro Conformity", RULE),
    ("AWS Security Hub", "IAM.28"),
    ("AWS Config", "IAM_EXTERNAL_ACCESS_ANALYZER_ENABLED"),
    ("AWS Trusted Advisor", "07602fcad6"),
    ("CIS AWS Foundations Benchmark 1.3.0", "1.21"),
    ("CIS AWS Foundations Benchmark 1.4.0", "1.20"),
    ("CIS AWS Foundations Benchmark 1.5.0", "1.20"),
    ("CIS AWS Foundations Benchmark 2.0.0", "1.20"),
    ("CIS AWS Foundations Benchmark 3.0.0", "1.20"),
    ("CIS AWS Foundations Benchmark 4.0.1", "1.20"),
    ("CIS AWS Foundations Benchmark 5.0.0", "1.19"),
    ("CIS AWS Foundations Benchmark 6.0.0", "2.19"),
    ("CIS AWS Foundations Benchmark 7.0.0", "2.18"),
    ("ISO/IEC 27001:2022", "A.8.3"),
];
