//! Rules of a role in one allocation. Five vectors of strings a rule would cost some 600 bytes; the
//! same packed is about 100, and roles are many and looked at seldom.

use crate::object::PolicyRule;

/// The `rules` of one role, in the order of the object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PackedRules(Box<[u8]>);

impl PackedRules {
    /// Packs rules.
    pub fn pack(rules: &[PolicyRule]) -> PackedRules {
        let mut out = Vec::new();
        for rule in rules {
            for list in [
                &rule.verbs,
                &rule.api_groups,
                &rule.resources,
                &rule.resource_names,
                &rule.non_resource_urls,
            ] {
                put(&mut out, list.len());
                for text in list {
                    put(&mut out, text.len());
                    out.extend_from_slice(text.as_bytes());
                }
            }
        }
        PackedRules(out.into_boxed_slice())
    }

    /// The rules again.
    pub fn unpack(&self) -> Vec<PolicyRule> {
        let mut rest = &*self.0;
        let mut rules = Vec::new();
        while !rest.is_empty() {
            let mut list = || {
                let n = take(&mut rest);
                (0..n)
                    .map(|_| {
                        let len = take(&mut rest);
                        let (text, tail) = rest.split_at(len);
                        rest = tail;
                        String::from_utf8_lossy(text).into_owned()
                    })
                    .collect::<Vec<_>>()
            };
            rules.push(PolicyRule {
                verbs: list(),
                api_groups: list(),
                resources: list(),
                resource_names: list(),
                non_resource_urls: list(),
            });
        }
        rules
    }

    /// No rule at all?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn put(out: &mut Vec<u8>, mut n: usize) {
    while n >= 0x80 {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn take(rest: &mut &[u8]) -> usize {
    let (mut n, mut shift) = (0, 0);
    while let Some((byte, tail)) = rest.split_first() {
        *rest = tail;
        n |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_again() {
        let long = "x".repeat(300);
        let rules = vec![
            PolicyRule {
                verbs: vec!["get".into(), "*".into()],
                api_groups: vec![String::new()],
                resources: vec!["pods/exec".into()],
                resource_names: vec![String::new(), long],
                non_resource_urls: vec![],
            },
            PolicyRule::default(),
        ];
        assert_eq!(PackedRules::pack(&rules).unpack(), rules);
        assert!(PackedRules::pack(&[]).is_empty());
        assert_eq!(PackedRules::default().unpack(), []);
    }
}
