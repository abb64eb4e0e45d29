//! Which releases of the NATS server are refused.

/// The releases that Sendpi works with, for messages to people.
pub const NATS_VERSIONS: &str = "2.12.12 or newer of 2.12, or 2.14.3 or newer";

/// Returns whether a release of the NATS server is one of [`NATS_VERSIONS`]. Older ones lose or repeat what they have
/// acknowledged; `docs/operations.md` says which and how.
#[must_use]
pub fn is_safe_nats(version: &str) -> bool {
    let mut numbers = version.split(['.', '-', '+']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (2, 14, 3) || ((2, 12, 12)..(2, 13, 0)).contains(&version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_with_known_defects_are_refused() {
        for good in ["2.12.12", "2.12.13", "2.14.3", "2.14.10", "2.15.0", "2.15.1-RC.1", "3.0.0"] {
            assert!(is_safe_nats(good), "{good}");
        }
        for bad in ["2.9.25", "2.10.29", "2.11.8", "2.12.11", "2.13.0", "2.14.2", "1.4.1", "", "x"] {
            assert!(!is_safe_nats(bad), "{bad}");
        }
    }
}
