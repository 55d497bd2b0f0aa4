//! Enumerations whose words are public: the same spelling in SQL, JSON, logs and configuration.

use std::fmt;

/// A word that is not in the closed set it was read as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownWord {
    /// The name of the set, such as `status`.
    pub set: &'static str,
    /// The word that was found.
    pub word: String,
    /// Every word that would have been valid.
    pub valid: Vec<&'static str>,
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a {}; valid: {}", self.word, self.set, self.valid.join(", "))
    }
}

impl std::error::Error for UnknownWord {}

/// Defines an enum together with its public words, in one list, so that they cannot drift apart.
macro_rules! closed_set {
    (
        $(#[$meta:meta])*
        $name:ident, $set:literal {
            $( $(#[$variant_meta:meta])* $variant:ident = $word:literal ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord,
                 serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        pub enum $name {
            $( $(#[$variant_meta])* #[serde(rename = $word)] $variant ),+
        }

        impl $name {
            /// Every member, in the order of its precedence.
            pub const ALL: &'static [Self] = &[ $( Self::$variant ),+ ];

            /// The public word, as in SQL, JSON and logs.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word ),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::model::UnknownWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|member| member.as_str() == word)
                    .ok_or_else(|| $crate::model::UnknownWord {
                        set: $set,
                        word: word.to_owned(),
                        valid: Self::ALL.iter().map(|member| member.as_str()).collect(),
                    })
            }
        }
    };
}

pub(crate) use closed_set;
