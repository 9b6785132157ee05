//! `engine.device`: where the image tower runs.

use serde::Deserialize;
use std::fmt;
use std::str::FromStr;

/// `"auto"`, `"cpu"`, `"cuda"` or `"cuda:1"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub enum Device {
    /// The first GPU if it works, or else the CPU.
    Auto,
    #[default]
    Cpu,
    /// The GPU of this index; an error if it does not work.
    Cuda(u32),
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", index)) if index.parse::<u32>().is_ok_and(|i| i < 64) => {
                Ok(Self::Cuda(index.parse().unwrap_or(0)))
            }
            _ => Err(format!(
                "`{text}` is none of \"auto\", \"cpu\", \"cuda\" and \"cuda:N\""
            )),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Device;

    #[test]
    fn devices_parse_as_they_are_displayed() {
        for text in ["auto", "cpu", "cuda", "cuda:1"] {
            assert_eq!(text.parse::<Device>().expect(text).to_string(), text);
        }
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:99", "cpu:0", "CUDA"] {
            assert!(
                text.parse::<Device>()
                    .expect_err(text)
                    .contains("\"cuda:N\""),
                "{text}"
            );
        }
    }
}
