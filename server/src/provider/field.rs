//! The fields of `config` that a row takes, and what they set. Data only.

/// One field of `config`.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name, for example `openai_api_key`.
    pub name: &'static str,
    /// What it sets.
    pub sets: Sets,
}

/// What a field of `config` sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sets {
    /// The credential; a secret.
    ApiKey,
    /// The base address.
    ApiBase,
    /// A header of every request.
    Header(&'static str),
    /// Which flavour of the provider's API is meant.
    Flavour(&'static Flavour),
    /// Something that the dialect, the address or a grant reads.
    Setting(&'static Setting),
    /// A template that the dialect fills; of an answer if `true`.
    Template(bool),
    /// A secret that a grant reads, by this name.
    Secret(&'static str),
    /// A mapping of further fields of the row.
    Group,
    /// Something that only a dialect of a later build reads; a secret if `true`.
    Later(bool),
}

/// Tells whether a text is what a setting must be.
pub type Check = (fn(&str) -> bool, &'static str);

/// Text that a dialect, an address or a grant reads.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// The environment variables that hold it by custom, where the file does not say it; the first that is set counts.
    pub env: &'static [&'static str],
    /// What it must be, and that in words.
    pub check: Option<Check>,
    /// What holds when nobody says it; empty when nothing does.
    pub default: &'static str,
    /// The words that it may be; empty when it is any text.
    pub words: &'static [&'static str],
    /// Makes what `{name:host}` stands for in an address.
    pub host: Option<fn(&str) -> String>,
    /// Reads it off the host that the operator gave instead of the row's address, where the file does not say it.
    pub in_host: Option<fn(&str) -> Option<String>>,
    /// Whether nothing but a grant reads it.
    pub only_grant: bool,
}

impl PartialEq for Setting {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Setting {}

impl Sets {
    /// Whether only a grant reads it, so that it does nothing beside a key.
    pub fn is_of_grant(self) -> bool {
        match self {
            Self::Secret(_) => true,
            Self::Setting(setting) => setting.only_grant,
            Self::ApiKey | Self::ApiBase | Self::Header(_) | Self::Flavour(_) | Self::Template(_) | Self::Group | Self::Later(_) => false,
        }
    }
}

impl Setting {
    /// Any text, that only the file says.
    pub const fn new(name: &'static str) -> Self {
        Self { name, env: &[], check: None, default: "", words: &[], host: None, in_host: None, only_grant: false }
    }

    /// As [`Setting::new`], for a grant only.
    pub const fn of_grant(name: &'static str) -> Self {
        Self { only_grant: true, ..Self::new(name) }
    }

    /// How it stands in an address: as it is, and as a host.
    pub(super) fn spots(&self) -> [String; 2] {
        [format!("{{{}}}", self.name), format!("{{{}:host}}", self.name)]
    }
}

/// The flavours of a provider's API, and the fields of `config` that go with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flavour {
    /// The one that the row's dialect speaks, and the default.
    pub plain: &'static str,
    /// Those of other rows, which have these names.
    pub others: &'static [&'static str],
    /// Fields that the others need.
    pub needs: &'static [&'static str],
    /// Fields that only the others take.
    pub only_others: &'static [&'static str],
    /// Fields that only the plain one takes.
    pub only_plain: &'static [&'static str],
}
