//! Reads the options in the parentheses of `#[rpc(…)]`, and the attributes of `#[derive(MethodError)]`.

mod method_error;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Attribute, Expr, ExprLit, Ident, Lit, LitStr, Meta, Path, Result, Token};

pub(crate) use self::method_error::{ErrorOptions, ErrorPlace};
use crate::crate_path::Library;
use crate::errors::Errors;
use crate::macro_rules_fragments::visible;

/// The options in the parentheses. Which options are allowed depends on the place.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) name: Option<LitStr>,
    pub(crate) aliases: Vec<LitStr>,
    pub(crate) prefix: Option<LitStr>,
    pub(crate) stub: Option<Ident>,
    pub(crate) idempotent: bool,
    pub(crate) readonly: bool,
    /// The word `keyed` in the attribute.
    pub(crate) keyed: Option<Ident>,
    /// The word `hedge` in the attribute.
    pub(crate) hedge: Option<Ident>,
    pub(crate) blocking: Option<Ident>,
    pub(crate) timeout_ms: Option<u64>,
    /// The variant of `Priority`.
    pub(crate) priority: Option<Ident>,
    pub(crate) in_flight: Option<usize>,
    pub(crate) max_age: Option<MaxAge>,
    /// The word `public` in the attribute.
    pub(crate) public: Option<Ident>,
    pub(crate) hidden: bool,
    pub(crate) default: Option<DefaultValue>,
    pub(crate) library: Option<Path>,
}

/// How long an answer may be kept, and the text that says so.
pub(crate) struct MaxAge {
    pub(crate) seconds: u32,
    pub(crate) text: LitStr,
}

/// The value of an argument that a caller leaves out.
#[derive(Clone)]
pub(crate) enum DefaultValue {
    Expr(Expr),
    /// `Default::default()` of its type. The word `default` in the attribute.
    OfType(Ident),
}

impl ToTokens for DefaultValue {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            DefaultValue::Expr(expr) => expr.to_tokens(tokens),
            DefaultValue::OfType(word) => word.to_tokens(tokens),
        }
    }
}

/// The kind of item that an attribute is on.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Place {
    Function,
    Method,
    Block,
    Contract,
    ContractMethod,
    /// The `impl` of a contract.
    Implementation,
    Argument,
}

impl Options {
    /// Reads the options in the parentheses of the attribute itself.
    pub(crate) fn parse(tokens: TokenStream, place: Place, errors: &mut Errors) -> Self {
        let mut settings = Vec::new();
        let list = |input: ParseStream| {
            while !input.is_empty() {
                match Setting::parse(input) {
                    Ok(setting) => settings.push(setting),
                    Err(error) => {
                        errors.push(error);
                        skip_to_comma(input)?;
                    }
                }
                if !input.is_empty() && !input.peek(Token![,]) {
                    let unexpected: TokenTree = input.parse()?;
                    errors.at(unexpected, "expected a comma", "separate options with commas");
                    skip_to_comma(input)?;
                }
                input.parse::<Option<Token![,]>>()?;
            }
            Ok(())
        };
        if let Err(error) = list.parse2(tokens) {
            errors.push(error);
        }
        let mut options = Options::default();
        let mut seen: Vec<&str> = Vec::new();
        for setting in settings {
            let Some(known) = setting.find(place, errors) else {
                continue;
            };
            if seen.contains(&known.name) && !known.repeats {
                errors.at(&setting.key, format_args!("`{}` is given twice", known.name), "keep one of them");
                continue;
            }
            seen.push(known.name);
            (known.set)(&mut options, &setting, errors);
        }
        options
    }

    /// Reads the attributes inside an item, on a method or on an argument.
    pub(crate) fn from_attributes(attrs: &[Attribute], place: Place, errors: &mut Errors) -> Self {
        if let Some(second) = attrs.get(1) {
            errors.at(
                second,
                "`#[rpc(…)]` is given twice",
                "put all options into one attribute: `#[rpc(readonly, name = \"…\")]`",
            );
        }
        let tokens = match attrs.first() {
            None => return Options::default(),
            Some(attribute) => match &attribute.meta {
                Meta::List(list) if !list.tokens.is_empty() => list.tokens.clone(),
                Meta::NameValue(_) => {
                    errors.at(
                        attribute,
                        "the options of `#[rpc]` go in parentheses",
                        format_args!("write `#[rpc({})]`", place.example()),
                    );
                    return Options::default();
                }
                _ => {
                    errors.at(attribute, place.bare(), place.bare_help());
                    return Options::default();
                }
            },
        };
        Options::parse(tokens, place, errors)
    }

    /// Where the expansion finds the library.
    pub(crate) fn library(&self) -> Library {
        Library { chosen: self.library.clone() }
    }
}

impl Place {
    /// Why an attribute without options is an error here.
    fn bare(self) -> &'static str {
        match self {
            Place::Argument => "`#[rpc]` on an argument needs an option",
            Place::ContractMethod => "every method of a contract is exported already",
            _ => "every method with `&self` in this block is exported already",
        }
    }

    fn bare_help(self) -> &'static str {
        match self {
            Place::Argument => "write `#[rpc(default = …)]`, or remove it",
            Place::ContractMethod => "remove this `#[rpc]`; put methods that callers must not call into another trait",
            _ => "remove this `#[rpc]`; put methods that callers must not call into another `impl` block",
        }
    }

    fn example(self) -> &'static str {
        match self {
            Place::Function | Place::Method | Place::ContractMethod => "name = \"…\"",
            Place::Block | Place::Contract => "prefix = \"…\"",
            Place::Implementation => "crate = …",
            Place::Argument => "default = …",
        }
    }

    fn a(self) -> &'static str {
        match self {
            Place::Function => "a function",
            Place::Method => "a method",
            Place::Block => "an `impl` block",
            Place::Contract => "a contract",
            Place::ContractMethod => "a contract's method",
            Place::Implementation => "the `impl` of a contract",
            Place::Argument => "an argument",
        }
    }
}

/// One option: `key` or `key = value`.
struct Setting {
    key: Ident,
    value: Option<Expr>,
}

impl Setting {
    fn parse(input: ParseStream) -> Result<Self> {
        if !input.peek(Ident::peek_any) {
            let unexpected: TokenTree = input.parse()?;
            return Err(syn::Error::new_spanned(
                &unexpected,
                "expected an option, such as `readonly` or `name = \"…\"`\n\
                 help: the options are listed in the documentation of `byname::rpc`",
            ));
        }
        let key = input.call(Ident::parse_any)?;
        let value = if input.peek(Token![=]) {
            input.parse::<Token![=]>()?;
            if input.is_empty() || input.peek(Token![,]) {
                return Err(syn::Error::new_spanned(&key, format!("`{key} =` needs a value\nhelp: {}", example(&key))));
            }
            Some(visible(&input.parse()?).clone())
        } else if input.is_empty() || input.peek(Token![,]) {
            None
        } else {
            let unexpected: TokenTree = input.parse()?;
            return Err(syn::Error::new_spanned(
                &unexpected,
                format!("expected `=` or `,` after `{key}`\nhelp: {}", example(&key)),
            ));
        };
        Ok(Setting { key, value })
    }

    fn find(&self, place: Place, errors: &mut Errors) -> Option<&'static Known> {
        let key = self.key.unraw().to_string();
        let Some(known) = KNOWN.iter().find(|known| known.name == key) else {
            let here = KNOWN.iter().filter(|known| known.places.contains(&place));
            let list: Vec<String> = here.map(|known| format!("`{}`", known.name)).collect();
            let verb = if list.len() == 1 { "option is" } else { "options are" };
            let near = KNOWN
                .iter()
                .map(|known| (distance(&key, known.name), known.name))
                .min()
                .filter(|(distance, name)| *distance <= name.len() / 3 + 1);
            let help = match near {
                Some((_, name)) => format!("did you mean `{name}`? On {}", place.a()),
                None => format!("on {}", place.a()),
            };
            errors.at(
                &self.key,
                format_args!("unknown option `{key}`"),
                format_args!("{help} the {verb} {}", list.join(", ")),
            );
            return None;
        };
        if !known.places.contains(&place) {
            let elsewhere = match place {
                Place::Implementation => "write it on the trait, which callers and services share",
                _ => known.elsewhere,
            };
            errors.at(&self.key, format_args!("`{key}` is not an option of {}", place.a()), elsewhere);
            return None;
        }
        Some(known)
    }

    /// The text in quotes.
    fn string(&self, errors: &mut Errors) -> Option<LitStr> {
        match &self.value {
            Some(Expr::Lit(ExprLit { lit: Lit::Str(text), .. })) => Some(text.clone()),
            value => {
                let help = match value {
                    Some(Expr::Path(path)) => {
                        let path = path.path.to_token_stream().to_string().replace(' ', "");
                        format!("write `{} = \"{path}\"`", self.key)
                    }
                    _ => example(&self.key),
                };
                let wrong = format_args!("`{}` expects a string in quotes", self.key);
                errors.at(self.value_or_key(), wrong, help);
                None
            }
        }
    }

    /// An option without a value.
    fn flag(&self, errors: &mut Errors) -> bool {
        if let Some(value) = &self.value {
            errors.at(
                value,
                format_args!("`{}` takes no value", self.key),
                format_args!("write `#[rpc({})]`, or leave it out", self.key),
            );
        }
        true
    }

    fn ident(&self, errors: &mut Errors) -> Option<Ident> {
        if let Some(Expr::Path(path)) = &self.value
            && let Some(ident) = path.path.get_ident()
        {
            return Some(ident.clone());
        }
        errors.at(
            self.value_or_key(),
            format_args!("`{}` expects the name of a type, without quotes", self.key),
            example(&self.key),
        );
        None
    }

    fn path(&self, errors: &mut Errors) -> Option<Path> {
        if let Some(Expr::Path(path)) = &self.value
            && path.qself.is_none()
            && path.path.segments.iter().all(|segment| segment.arguments.is_none())
        {
            return Some(path.path.clone());
        }
        let help = match &self.value {
            Some(Expr::Lit(ExprLit { lit: Lit::Str(text), .. })) => format!("write `{} = {}`", self.key, text.value()),
            _ => example(&self.key),
        };
        let wrong = format_args!("`{}` expects the path of byname, without quotes", self.key);
        errors.at(self.value_or_key(), wrong, help);
        None
    }

    fn value_or_key(&self) -> TokenStream {
        match &self.value {
            Some(value) => value.to_token_stream(),
            None => self.key.to_token_stream(),
        }
    }
}

/// One option and everything that is known about it.
struct Known {
    name: &'static str,
    places: &'static [Place],
    example: &'static str,
    /// What to do when it stands in another place.
    elsewhere: &'static str,
    repeats: bool,
    set: fn(&mut Options, &Setting, &mut Errors),
}

const CALLED: &[Place] = &[Place::Function, Place::Method, Place::ContractMethod];
const ON_CALLED: &str = "it goes on a function or a method";

const KNOWN: &[Known] = &[
    Known {
        name: "name",
        places: CALLED,
        example: "name = \"users.get\"",
        elsewhere: "it goes on a function or a method; a block or a trait has `prefix = \"…\"`",
        repeats: false,
        set: |options, setting, errors| options.name = setting.string(errors),
    },
    Known {
        name: "alias",
        places: CALLED,
        example: "alias = \"get_user\"",
        elsewhere: ON_CALLED,
        repeats: true,
        set: |options, setting, errors| options.aliases.extend(setting.string(errors)),
    },
    Known {
        name: "prefix",
        places: &[Place::Block, Place::Contract],
        example: "prefix = \"users\"",
        elsewhere: "it goes on an `impl` block or a trait; here write the whole name: `name = \"users.get\"`",
        repeats: false,
        set: |options, setting, errors| options.prefix = setting.string(errors),
    },
    Known {
        name: "stub",
        places: &[Place::Function, Place::Block, Place::Contract],
        example: "stub = add_rpc",
        elsewhere: "it goes on a function, an `impl` block or a trait; on the stub of a block or a trait each method keeps its name",
        repeats: false,
        set: |options, setting, errors| options.stub = setting.ident(errors),
    },
    Known {
        name: "idempotent",
        places: CALLED,
        example: "idempotent",
        elsewhere: ON_CALLED,
        repeats: false,
        set: |options, setting, errors| options.idempotent = setting.flag(errors),
    },
    Known {
        name: "readonly",
        places: CALLED,
        example: "readonly",
        elsewhere: ON_CALLED,
        repeats: false,
        set: |options, setting, errors| options.readonly = setting.flag(errors),
    },
    Known {
        name: "keyed",
        places: CALLED,
        example: "keyed",
        elsewhere: ON_CALLED,
        repeats: false,
        set: |options, setting, errors| {
            options.keyed = setting.flag(errors).then(|| setting.key.clone());
        },
    },
    Known {
        name: "hedge",
        places: CALLED,
        example: "readonly, hedge",
        elsewhere: ON_CALLED,
        repeats: false,
        set: |options, setting, errors| {
            options.hedge = setting.flag(errors).then(|| setting.key.clone());
        },
    },
    Known {
        name: "blocking",
        places: &[Place::Function, Place::Method],
        example: "blocking",
        elsewhere: "it goes on a function or on a method of an `impl` block; in an `async` method \
                    that blocks, use `tokio::task::spawn_blocking`",
        repeats: false,
        set: |options, setting, errors| {
            options.blocking = setting.flag(errors).then(|| setting.key.clone());
        },
    },
    Known {
        name: "timeout",
        places: CALLED,
        example: "timeout = \"2s\"",
        elsewhere: ON_CALLED,
        repeats: false,
        set: |options, setting, errors| options.timeout_ms = timeout(setting, errors),
    },
    Known {
        name: "priority",
        places: CALLED,
        example: "priority = \"batch\"",
        elsewhere: ON_CALLED,
        repeats: false,
        set: |options, setting, errors| options.priority = priority(setting, errors),
    },
    Known {
        name: "in_flight",
        places: CALLED,
        example: "in_flight = 8",
        elsewhere: ON_CALLED,
        repeats: false,
        set: |options, setting, errors| options.in_flight = in_flight(setting, errors),
    },
    Known {
        name: "max_age",
        places: CALLED,
        example: "max_age = \"60s\"",
        elsewhere: ON_CALLED,
        repeats: false,
        set: |options, setting, errors| options.max_age = max_age(setting, errors),
    },
    Known {
        name: "public",
        places: CALLED,
        example: "public",
        elsewhere: ON_CALLED,
        repeats: false,
        set: |options, setting, errors| {
            options.public = setting.flag(errors).then(|| setting.key.clone());
        },
    },
    Known {
        name: "hidden",
        places: CALLED,
        example: "hidden",
        elsewhere: ON_CALLED,
        repeats: false,
        set: |options, setting, errors| options.hidden = setting.flag(errors),
    },
    Known {
        name: "crate",
        places: &[Place::Function, Place::Block, Place::Contract, Place::Implementation],
        example: "crate = my_framework::byname",
        elsewhere: "it goes on the function, the `impl` block or the trait around this",
        repeats: false,
        set: |options, setting, errors| options.library = setting.path(errors),
    },
    Known {
        name: "default",
        places: &[Place::Argument],
        example: "default = 10",
        elsewhere: "it goes on an argument: `#[rpc(default = 10)] limit: u32`",
        repeats: false,
        set: |options, setting, _| {
            options.default = Some(match &setting.value {
                Some(value) => DefaultValue::Expr(value.clone()),
                None => DefaultValue::OfType(setting.key.clone()),
            });
        },
    },
];

fn example(key: &Ident) -> String {
    let known = KNOWN.iter().find(|known| key == known.name);
    match known {
        Some(known) => format!("write `#[rpc({})]`", known.example),
        None => "write `#[rpc(option)]` or `#[rpc(option = value)]`".into(),
    }
}

fn timeout(setting: &Setting, errors: &mut Errors) -> Option<u64> {
    if let Some(Expr::Lit(ExprLit { lit: Lit::Int(number), .. })) = &setting.value {
        let unit = match number.suffix() {
            "" => "ms",
            suffix => suffix,
        };
        errors.at(
            number,
            "a time-out needs a unit and quotes",
            format_args!("write `timeout = \"{}{unit}\"`", number.base10_digits()),
        );
        return None;
    }
    let text = setting.string(errors)?;
    match milliseconds(&text.value()) {
        Ok(milliseconds) => Some(milliseconds),
        Err((wrong, help)) => {
            errors.at(&text, wrong, help);
            None
        }
    }
}

fn milliseconds(text: &str) -> std::result::Result<u64, (&'static str, &'static str)> {
    const GRAMMAR: &str = "write a whole number and a unit: `\"50ms\"`, `\"2s\"` or `\"1m\"`";
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit());
    let (number, unit) = text.split_at(unit_at.unwrap_or(text.len()));
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "" => return Err(("a time-out needs a unit", GRAMMAR)),
        _ => return Err(("this is not a time-out", GRAMMAR)),
    };
    if number.is_empty() {
        return Err(("this is not a time-out", GRAMMAR));
    }
    let milliseconds = number.parse::<u64>().ok();
    match milliseconds.and_then(|number| number.checked_mul(factor)) {
        Some(0) => Err(("with a time-out of zero every call would fail", "leave it out to use `Limits::call`")),
        Some(milliseconds) => Ok(milliseconds),
        None => Err(("this time-out is too long", "choose a shorter time-out: every call has a deadline")),
    }
}

fn priority(setting: &Setting, errors: &mut Errors) -> Option<Ident> {
    const EXPECTED: &str = "write `\"critical\"`, `\"default\"`, `\"sheddable\"` or `\"batch\"`";
    if let Some(Expr::Path(path)) = &setting.value {
        errors.at(path, "a priority is a string", EXPECTED);
        return None;
    }
    let text = setting.string(errors)?;
    let variant = match text.value().as_str() {
        "batch" => "Batch",
        "sheddable" => "Sheddable",
        "default" => "Normal",
        "critical" => "Critical",
        _ => {
            errors.at(&text, "this is not a priority", EXPECTED);
            return None;
        }
    };
    Some(Ident::new(variant, text.span()))
}

fn in_flight(setting: &Setting, errors: &mut Errors) -> Option<usize> {
    const EXPECTED: &str = "write a whole number, at least 1: `in_flight = 8`";
    let Some(Expr::Lit(ExprLit { lit: Lit::Int(number), .. })) = &setting.value else {
        match &setting.value {
            Some(value) => errors.at(value, "`in_flight` is how many calls of the function may run at once", EXPECTED),
            None => errors.at(&setting.key, "`in_flight` needs a number", EXPECTED),
        }
        return None;
    };
    match number.base10_parse::<u32>().ok().and_then(|number| usize::try_from(number).ok()) {
        Some(0) => {
            errors.at(number, "with `in_flight = 0` no call could run", "allow at least 1, or remove `#[rpc]`");
            None
        }
        Some(limit) if number.suffix().is_empty() => Some(limit),
        _ => {
            errors.at(number, "this is not a number of calls", EXPECTED);
            None
        }
    }
}

fn max_age(setting: &Setting, errors: &mut Errors) -> Option<MaxAge> {
    if let Some(Expr::Lit(ExprLit { lit: Lit::Int(number), .. })) = &setting.value {
        let unit = match number.suffix() {
            "" => "s",
            suffix => suffix,
        };
        errors.at(
            number,
            "`max_age` needs a unit and quotes",
            format_args!("write `max_age = \"{}{unit}\"`", number.base10_digits()),
        );
        return None;
    }
    let text = setting.string(errors)?;
    match seconds(&text.value()) {
        Ok(seconds) => Some(MaxAge { seconds, text }),
        Err((wrong, help)) => {
            errors.at(&text, wrong, help);
            None
        }
    }
}

fn seconds(text: &str) -> std::result::Result<u32, (&'static str, &'static str)> {
    const GRAMMAR: &str = "write a whole number and a unit: `\"60s\"`, `\"5m\"`, `\"2h\"` or `\"1d\"`";
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit());
    let (number, unit) = text.split_at(unit_at.unwrap_or(text.len()));
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "" => return Err(("`max_age` needs a unit", GRAMMAR)),
        _ => return Err(("this is not a duration", GRAMMAR)),
    };
    if number.is_empty() {
        return Err(("this is not a duration", GRAMMAR));
    }
    // Caches count to 2³¹ seconds (RFC 9111, section 1.2.2).
    let seconds = number.parse::<u32>().ok().and_then(|number| number.checked_mul(factor));
    seconds.filter(|seconds| *seconds <= 1 << 31).ok_or((
        "this is more than 2³¹ seconds, the longest time that caches count",
        "write a shorter time: `\"365d\"` is enough for answers that never change",
    ))
}

fn skip_to_comma(input: ParseStream) -> Result<()> {
    while !input.is_empty() && !input.peek(Token![,]) {
        input.parse::<TokenTree>()?;
    }
    Ok(())
}

/// The edit distance of two words: letters inserted, removed or changed.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in to.bytes().enumerate() {
            let change = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    fn parse(tokens: TokenStream, place: Place) -> (Options, Vec<String>) {
        let mut errors = Errors::default();
        let options = Options::parse(tokens, place, &mut errors);
        (options, errors.messages())
    }

    fn mistakes(tokens: TokenStream) -> Vec<String> {
        parse(tokens, Place::Function).1
    }

    #[test]
    fn every_option_of_a_function() {
        let (options, mistakes) = parse(
            quote!(
                name = "a.b",
                alias = "c",
                alias = "d",
                readonly,
                keyed,
                hedge,
                idempotent,
                blocking,
                timeout = "2s",
                priority = "batch",
                in_flight = 8,
                max_age = "60s",
                public,
                hidden,
                stub = r#type,
            ),
            Place::Function,
        );
        assert!(mistakes.is_empty(), "{mistakes:?}");
        assert_eq!(options.name.unwrap().value(), "a.b");
        assert_eq!(options.aliases.iter().map(LitStr::value).collect::<Vec<_>>(), ["c", "d"]);
        assert!(options.readonly && options.idempotent && options.blocking.is_some() && options.hedge.is_some());
        assert!(options.keyed.is_some());
        assert_eq!(options.timeout_ms, Some(2_000));
        assert!(options.priority.is_some_and(|priority| priority == "Batch") && options.in_flight == Some(8));
        assert!(options.max_age.is_some_and(|max_age| max_age.seconds == 60) && options.public.is_some());
        assert!(options.hidden);
        assert_eq!(options.stub.unwrap(), "r#type");
    }

    #[test]
    fn options_elsewhere() {
        let (options, mistakes) = parse(quote!(prefix = "a", stub = B), Place::Block);
        assert!(mistakes.is_empty() && options.prefix.unwrap().value() == "a");
        let (options, mistakes) = parse(quote!(prefix = "a", stub = B), Place::Contract);
        assert!(mistakes.is_empty() && options.stub.unwrap() == "B");
        let (options, mistakes) = parse(quote!(readonly, alias = "a", timeout = "1s"), Place::ContractMethod);
        assert!(mistakes.is_empty() && options.readonly);
        let (_, mistakes) = parse(quote!(blocking), Place::ContractMethod);
        assert!(mistakes[0].contains("tokio::task::spawn_blocking"), "{mistakes:?}");
        for place in [Place::Function, Place::Block, Place::Contract, Place::Implementation] {
            let (options, mistakes) = parse(quote!(crate = ::a::b), place);
            assert!(mistakes.is_empty(), "{mistakes:?}");
            assert_eq!(options.library().to_token_stream().to_string(), quote!(::a::b).to_string());
        }
        for place in [Place::Method, Place::ContractMethod, Place::Argument] {
            assert_eq!(parse(quote!(crate = a), place).1.len(), 1);
        }
        let (options, mistakes) = parse(quote!(default = Vec::<(u8, u8)>::new()), Place::Argument);
        assert!(mistakes.is_empty() && matches!(options.default, Some(DefaultValue::Expr(_))));
        let (options, mistakes) = parse(quote!(default), Place::Argument);
        assert!(mistakes.is_empty() && matches!(options.default, Some(DefaultValue::OfType(_))));
    }

    #[test]
    fn one_message_for_each_mistake_and_the_rest_is_still_read() {
        let (options, mistakes) = parse(
            quote!(nam = "x", "y", readonly = true, timeout = 5, name("z"), prefix = "p", stub = 3 4, blocking),
            Place::Function,
        );
        assert_eq!(mistakes.len(), 8, "{mistakes:#?}");
        assert!(options.blocking.is_some());
    }

    #[test]
    fn near_names_are_suggested() {
        assert!(mistakes(quote!(idempotant))[0].contains("did you mean `idempotent`?"));
        assert!(mistakes(quote!(time_out = "1s"))[0].contains("did you mean `timeout`?"));
        assert!(!mistakes(quote!(retries = 3))[0].contains("did you mean"));
        assert!(mistakes(quote!(name = add))[0].contains("write `name = \"add\"`"));
    }

    #[test]
    fn time_outs() {
        for (text, expected) in [("50ms", 50), ("2s", 2_000), ("1m", 60_000), ("007s", 7_000)] {
            assert_eq!(milliseconds(text), Ok(expected), "{text}");
        }
        for text in ["", "5", "s", "0ms", "1.5s", "1 s", "-1s", "1h", "9999999999999999999m", "99999999999999999999s"] {
            assert!(milliseconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ages() {
        for (text, expected) in [("0s", 0), ("60s", 60), ("5m", 300), ("2h", 7_200), ("365d", 31_536_000)] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        assert_eq!(seconds("2147483648s"), Ok(1 << 31));
        for text in ["", "5", "s", "1.5s", "1 s", "-1s", "50ms", "2147483649s", "9999999999s", "99999d"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn distances() {
        assert_eq!(distance("name", "name"), 0);
        assert_eq!(distance("", "name"), 4);
        assert_eq!(distance("nmae", "name"), 2);
        assert_eq!(distance("prefx", "prefix"), 1);
    }
}
