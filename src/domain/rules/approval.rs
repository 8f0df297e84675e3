//! Approvals as they are written: whose yes is needed, how long it is waited for, and what then.

use serde::{Deserialize, Serialize};

/// What somebody must be allowed to do for his yes to count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalRole {
    /// What whoever approves anything must be allowed to do.
    #[default]
    Responder,
    /// What few may do.
    Admin,
}

impl ApprovalRole {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Responder => "responder",
            Self::Admin => "admin",
        }
    }
}

/// Whose yes is needed, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// What people are asked; a template. Empty = only whether it may run.
    #[serde(default)]
    pub text: String,
    /// What those who say yes must be allowed to do.
    #[serde(default)]
    pub role: ApprovalRole,
    /// How many different people must say yes.
    pub people: u32,
    /// Whether the one who asked for the run cannot say yes to it.
    #[serde(default)]
    pub two_person: bool,
    /// After so many seconds it counts as a no; `None` = it waits until its incident is closed.
    #[serde(default)]
    pub expires_seconds: Option<u32>,
    /// Whether people are told when nobody answered in time.
    #[serde(default)]
    pub escalate: bool,
    /// Seconds after which people are told again, and again; `None` = they are told once.
    #[serde(default)]
    pub remind_seconds: Option<u32>,
    /// Who is told beside the routes on `approval_needed`.
    #[serde(default)]
    pub receiver: Option<String>,
}

impl Default for Approval {
    /// One yes of anybody who may approve, whenever it comes.
    fn default() -> Self {
        Self {
            text: String::new(),
            role: ApprovalRole::Responder,
            people: 1,
            two_person: false,
            expires_seconds: None,
            escalate: false,
            remind_seconds: None,
            receiver: None,
        }
    }
}
