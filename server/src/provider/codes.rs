//! Error codes of a provider's own, where they are too many for its row. Data only.

use flowgate_proto::v1::ErrorReason;

/// The codes by which MiniMax says what went wrong, also in answers of status 200: https://platform.minimax.io/docs/api-reference/errorcode
pub(super) const MINIMAX_ERRORS: &[(&str, ErrorReason)] = &[
    ("1000", ErrorReason::ProviderFailed),
    ("1001", ErrorReason::ProviderTimeout),
    ("1002", ErrorReason::ProviderRateLimited),
    ("1004", ErrorReason::ProviderCredentialRejected),
    // The balance is spent.
    ("1008", ErrorReason::ProviderCredentialRejected),
    ("1013", ErrorReason::ProviderFailed),
    ("1024", ErrorReason::ProviderFailed),
    ("1026", ErrorReason::ProviderBlocked),
    ("1027", ErrorReason::ProviderBlocked),
    ("1033", ErrorReason::ProviderFailed),
    // Tokens of a minute, connections, a rise that is too steep.
    ("1039", ErrorReason::ProviderRateLimited),
    ("1041", ErrorReason::ProviderRateLimited),
    ("2045", ErrorReason::ProviderRateLimited),
    ("1042", ErrorReason::ProviderRejectedRequest),
    ("2013", ErrorReason::ProviderRejectedRequest),
    ("2049", ErrorReason::ProviderCredentialRejected),
    // What the plan gives for five hours is spent.
    ("2056", ErrorReason::ProviderCredentialRejected),
];
