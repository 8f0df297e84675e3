//! The one table of what can be wrong with a file: stable codes that people can look up.

use super::Level;

/// What is wrong; its code never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// A file cannot be read.
    Unreadable,
    /// A file is no YAML.
    Syntax,
    /// A key that nobody knows.
    UnknownField,
    /// A key that must be there is not.
    MissingField,
    /// A value of the wrong kind: a list for a text, a word for a number.
    WrongKind,
    /// A word that is none of those allowed, or a number out of range.
    BadValue,
    /// A key that a later version will know. Refused, because a guard that does not guard is worse
    /// than none.
    NotSupported,
    /// A name that cannot be one.
    BadName,
    /// Two things of one kind have the same name.
    DuplicateName,
    /// A name that nothing has.
    UnknownName,
    /// A matcher that cannot be read.
    BadMatcher,
    /// A regular expression that cannot be compiled.
    BadPattern,
    /// A duration that cannot be read.
    BadDuration,
    /// A time that cannot be read.
    BadTime,
    /// A template that cannot be compiled, or that names what does not exist.
    BadTemplate,
    /// A condition that cannot be compiled, or that names what does not exist.
    BadCondition,
    /// A cron line that cannot be read.
    BadCron,
    /// A time zone that does not exist.
    UnknownTimeZone,
    /// A secret written down where everybody can read it.
    PlainSecret,
    /// An address that cannot be one.
    BadAddress,
    /// Settings that would leave the door open.
    Unsafe,
    /// A silence that is over.
    SilenceOver,
    /// A rule that is never reached.
    NeverReached,
    /// A destination that http steps may not reach.
    NotAllowed,
    /// An item of a catalog refers to one that is not there.
    BrokenReference,
    /// An item of a catalog, or a reference to one, stands there twice.
    Doubled,
    /// A document of a catalog that cannot be used.
    LeftAside,
    /// A program that will not get the privileges that it is made for.
    Unprivileged,
}

impl Code {
    /// The code as printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "WK0101",
            Self::Syntax => "WK0102",
            Self::UnknownField => "WK0103",
            Self::MissingField => "WK0104",
            Self::WrongKind => "WK0105",
            Self::BadValue => "WK0106",
            Self::NotSupported => "WK0107",
            Self::BadName => "WK0108",
            Self::DuplicateName => "WK0109",
            Self::UnknownName => "WK0110",
            Self::BadMatcher => "WK0111",
            Self::BadPattern => "WK0112",
            Self::BadDuration => "WK0113",
            Self::BadTime => "WK0114",
            Self::BadTemplate => "WK0115",
            Self::BadCondition => "WK0116",
            Self::BadCron => "WK0117",
            Self::UnknownTimeZone => "WK0118",
            Self::PlainSecret => "WK0119",
            Self::BadAddress => "WK0120",
            Self::Unsafe => "WK0121",
            Self::SilenceOver => "WK0201",
            Self::NeverReached => "WK0202",
            Self::NotAllowed => "WK0203",
            Self::BrokenReference => "WK0204",
            Self::Doubled => "WK0205",
            Self::LeftAside => "WK0206",
            Self::Unprivileged => "WK0207",
        }
    }

    /// How bad it is: codes from `WK0200` on are warnings.
    pub fn level(self) -> Level {
        if self.as_str() < "WK0200" { Level::Error } else { Level::Warning }
    }
}
