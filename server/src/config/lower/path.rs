//! Which extra HTTP paths an endpoint may have: none that a door of the house has already.

/// The doors' own paths; `*` stands for one segment, `**` for the rest.
pub(crate) const DOORS: &[&str] = &[
    "/",
    "/health",
    "/openapi.json",
    "/docs",
    "/redoc",
    "/favicon.ico",
    "/invocations",
    "/v1/models",
    "/v1/models/*",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/endpoints",
    "/v1/endpoints/*",
    "/endpoints/*/invocations",
    "/gateway/*/invocations",
    "/llm/v1/chat/*",
    "/llm/v1/completions/*",
    "/llm/v1/embeddings/*",
    "/api/2.0/endpoints",
    "/api/2.0/endpoints/**",
    "/api/2.0/gateway/**",
    "/api/3.0/gateway/**",
    "/v2",
    "/v2/**",
    "/inference.GRPCInferenceService/*",
    "/flowgate.v1.PredictionService/*",
    "/flowgate.v1.ChatService/*",
    "/flowgate.v1.CompletionService/*",
    "/flowgate.v1.EmbeddingService/*",
    "/flowgate.v1.EndpointService/*",
    "/grpc.health.v1.Health/*",
    "/grpc.reflection.v1.ServerReflection/*",
    "/grpc.reflection.v1alpha.ServerReflection/*",
];

/// What is expected of a path that cannot be had.
pub(super) fn check(path: &str) -> Result<(), &'static str> {
    const FORM: &str = "a path such as `/llm/openai/chat`, without a query";
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()+,;=:@%/".contains(c);
    if !path.starts_with('/') || path.contains("//") || !path.chars().all(plain) {
        return Err(FORM);
    }
    if DOORS.iter().any(|door| covers(door, path)) {
        return Err("another path: Flowgate answers at this one itself");
    }
    if path.ends_with('/') {
        return Err("a path without `/` at its end");
    }
    // Clients take such segments out before they send a path.
    if path.split('/').any(|segment| matches!(segment, "." | "..")) { Err("a path without `.` and `..`") } else { Ok(()) }
}

/// Whether a pattern of [`DOORS`] stands for a path.
pub(crate) fn covers(door: &str, path: &str) -> bool {
    let (mut door, mut path) = (door.split('/'), path.trim_end_matches('/').split('/'));
    if door.clone().eq(["", ""]) {
        return path.eq([""]);
    }
    loop {
        match (door.next(), path.next()) {
            (Some("**"), Some(_)) | (None, None) => return true,
            (Some(own), Some(other)) if own == "*" || own == other => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_people_are_free() {
        for path in ["/llm/openai/chat", "/llm/helper", "/predictions/churn", "/v1/my/model", "/gateway/x", "/llm/v1/chat", "/a:b"] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn paths_of_doors_are_taken() {
        for path in [
            "/",
            "/health",
            "/invocations",
            "/v1/chat/completions",
            "/v1/endpoints/chat:chat",
            "/endpoints/iris/invocations",
            "/gateway/iris/invocations/",
            "/llm/v1/chat/any",
            "/api/2.0/endpoints/x/y",
        ] {
            assert!(check(path).is_err_and(|expected| expected.contains("itself")), "{path}");
        }
        for path in ["", "x", "//x", "/x?y=1", "/x y", "/x/{name}", "/x/*", "/x/", "/x/../y", "/x/."] {
            assert!(check(path).is_err(), "{path}");
        }
    }
}
