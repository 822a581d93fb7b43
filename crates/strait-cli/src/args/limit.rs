//! Resource limits on the command line.

use rustix::process::Resource;

/// A resource limit of a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The resource.
    pub resource: Resource,
    /// The soft limit; `None` for no limit.
    pub soft: Option<u64>,
    /// The hard limit; `None` for no limit.
    pub hard: Option<u64>,
}

/// The resources that can be limited, by the names of prlimit(1).
const RESOURCES: [(&str, Resource); 10] = [
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("stack", Resource::Stack),
];

impl std::str::FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Limit, String> {
        let (name, values) = text
            .split_once('=')
            .ok_or("write RESOURCE=SOFT or RESOURCE=SOFT:HARD, such as nofile=256")?;
        let known = RESOURCES.iter().find(|(known, _)| *known == name);
        let &(_, resource) = known.ok_or_else(|| {
            let names: Vec<&str> = RESOURCES.iter().map(|(name, _)| *name).collect();
            format!("`{name}` is no resource that can be limited; there are {}", names.join(", "))
        })?;
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (soft, hard) = (amount(soft)?, amount(hard)?);
        if hard.is_some_and(|hard| soft.is_none_or(|soft| soft > hard)) {
            return Err("the soft limit is greater than the hard one".to_owned());
        }
        Ok(Limit { resource, soft, hard })
    }
}

/// Reads a number with a suffix such as 512M, or `unlimited`.
fn amount(text: &str) -> Result<Option<u64>, String> {
    if text == "unlimited" {
        return Ok(None);
    }
    let (digits, scale) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M') => (&text[..text.len() - 1], 1 << 20),
        Some(b'G') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(scale));
    number
        .map(Some)
        .ok_or_else(|| format!("`{text}` is no amount; write a number, 512K, 64M, 2G or unlimited"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_a_resource_and_one_or_two_amounts() {
        let limit = |soft, hard| Ok(Limit { resource: Resource::Nofile, soft, hard });
        assert_eq!("nofile=256".parse(), limit(Some(256), Some(256)));
        assert_eq!("nofile=1K:unlimited".parse(), limit(Some(1024), None));
        for text in ["nofile", "nofile=", "nofile=x", "nofile=2:1", "nofile=unlimited:5", "beer=1"]
        {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
    }
}
