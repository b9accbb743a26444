//! Field types that take what the API server takes: null for absent everywhere, and nothing of a
//! wrong type. The derived ones do neither: a derived struct refuses null and accepts a list in
//! place of a mapping, field by field in order.

use serde::Serialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

thread_local! {
    static ALLOWANCE: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// Runs `read` with a bound on what it may build: every string counts its bytes and every list
/// element one.
///
/// A YAML alias repeats what it names, so a text of a megabyte can ask for a terabyte; the parser
/// bounds the number of aliases it follows but not what each of them repeats. A text without
/// aliases never needs more than its own length.
pub(crate) fn within<T>(allowance: u64, read: impl FnOnce() -> T) -> T {
    let before = ALLOWANCE.replace(allowance);
    let out = read();
    ALLOWANCE.set(before);
    out
}

/// Takes `amount` from what [`within`] granted.
pub(crate) fn charge<E: de::Error>(amount: usize) -> Result<(), E> {
    match ALLOWANCE.get().checked_sub(amount as u64) {
        Some(left) => {
            ALLOWANCE.set(left);
            Ok(())
        }
        None => Err(E::custom(
            "its aliases repeat far more than the text holds; write the values out",
        )),
    }
}

/// A string; null is the empty one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Text(pub(crate) String);

impl Text {
    /// Empty, or absent.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Seen;
        impl Visitor<'_> for Seen {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                charge(text.len())?;
                Ok(Text(text.to_owned()))
            }
            fn visit_string<E: de::Error>(self, text: String) -> Result<Text, E> {
                charge(text.len())?;
                Ok(Text(text))
            }
            fn visit_unit<E: de::Error>(self) -> Result<Text, E> {
                Ok(Text::default())
            }
            fn visit_none<E: de::Error>(self) -> Result<Text, E> {
                Ok(Text::default())
            }
        }
        // Not `deserialize_string`: serde_yaml would then hand over an unquoted 123 as text, which
        // the API server refuses.
        from.deserialize_any(Seen)
    }
}

/// A boolean, or nothing. `yes`, `no`, `on` and `off` are the booleans of YAML 1.1, which is what
/// kubectl reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flag(pub(crate) Option<bool>);

impl Flag {
    /// Set and true.
    pub(crate) fn is_true(self) -> bool {
        self.0 == Some(true)
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Seen;
        impl Visitor<'_> for Seen {
            type Value = Flag;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Flag, E> {
                Ok(Flag(Some(value)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Flag, E> {
                match text {
                    "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Ok(Flag(Some(true))),
                    "no" | "No" | "NO" | "off" | "Off" | "OFF" => Ok(Flag(Some(false))),
                    _ => Err(E::invalid_type(de::Unexpected::Str(text), &self)),
                }
            }
            fn visit_unit<E: de::Error>(self) -> Result<Flag, E> {
                Ok(Flag(None))
            }
            fn visit_none<E: de::Error>(self) -> Result<Flag, E> {
                Ok(Flag(None))
            }
        }
        from.deserialize_any(Seen)
    }
}

/// An RFC 3339 time in Unix seconds. One that cannot be read is `None`: times only date a
/// judgement, and losing the object over one would lower it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Option<i64>);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Seen;
        impl Visitor<'_> for Seen {
            type Value = Time;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time such as \"2026-01-31T12:00:00Z\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
                let time = text.parse::<jiff::Timestamp>().ok();
                Ok(Time(time.map(jiff::Timestamp::as_second)))
            }
            fn visit_unit<E: de::Error>(self) -> Result<Time, E> {
                Ok(Time(None))
            }
            fn visit_none<E: de::Error>(self) -> Result<Time, E> {
                Ok(Time(None))
            }
        }
        from.deserialize_any(Seen)
    }
}

/// A list; null is the empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct List<T>(pub(crate) Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        List(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Seen<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Seen<T> {
            type Value = List<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<T>, A::Error> {
                let mut out = Vec::new();
                while let Some(item) = seq.next_element()? {
                    charge(1)?;
                    out.push(item);
                }
                Ok(List(out))
            }
            fn visit_unit<E: de::Error>(self) -> Result<List<T>, E> {
                Ok(List::default())
            }
            fn visit_none<E: de::Error>(self) -> Result<List<T>, E> {
                Ok(List::default())
            }
        }
        from.deserialize_any(Seen(PhantomData))
    }
}

impl List<Text> {
    /// The strings.
    pub(crate) fn strings(self) -> Vec<String> {
        self.0.into_iter().map(|text| text.0).collect()
    }
}

/// A mapping read as the struct `T`; null is the default one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Block<T>(pub(crate) T);

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Block<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Seen<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for Seen<T> {
            type Value = Block<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Block<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Block)
            }
            fn visit_unit<E: de::Error>(self) -> Result<Block<T>, E> {
                Ok(Block::default())
            }
            fn visit_none<E: de::Error>(self) -> Result<Block<T>, E> {
                Ok(Block::default())
            }
        }
        from.deserialize_any(Seen(PhantomData))
    }
}

/// A mapping of strings to strings, sorted by key. A key given twice is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pairs(pub(crate) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Seen;
        impl<'de> Visitor<'de> for Seen {
            type Value = Pairs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut out = Vec::new();
                while let Some((key, value)) = map.next_entry::<Text, Text>()? {
                    charge(1)?;
                    out.push((key.0, value.0));
                }
                out.sort_unstable();
                if let Some(twice) = out.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                    let key = &twice[0].0;
                    return Err(de::Error::custom(format_args!("duplicate key {key:?}")));
                }
                Ok(Pairs(out))
            }
            fn visit_unit<E: de::Error>(self) -> Result<Pairs, E> {
                Ok(Pairs::default())
            }
            fn visit_none<E: de::Error>(self) -> Result<Pairs, E> {
                Ok(Pairs::default())
            }
        }
        from.deserialize_any(Seen)
    }
}

/// Whether a key is there, whatever its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Present(pub(crate) bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(from).map(|_| Present(true))
    }
}

/// A string if it is one; anything else is passed over. For reading who an object is when the
/// object itself does not decode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lax(pub(crate) Option<String>);

/// The same for a mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LaxBlock<T>(pub(crate) T);

/// How many items a list has, `None` when it is no list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) Option<usize>);

/// Takes a value of any type; what is not overridden is `T::default()`.
macro_rules! any_type {
    ($($method:ident($($argument:ty)?),)*) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("anything")
        }
        $(fn $method<E: de::Error>(self $(, _: $argument)?) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        })*
    };
}

/// Reads a list to its end.
fn pass_seq<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<usize, A::Error> {
    let mut count = 0;
    while seq.next_element::<IgnoredAny>()?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// Reads a mapping to its end.
fn pass_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<(), A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

impl<'de> Deserialize<'de> for Lax {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Seen;
        impl<'de> Visitor<'de> for Seen {
            type Value = Lax;
            any_type! { visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_unit(), visit_none(), }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Lax, E> {
                charge(text.len())?;
                Ok(Lax(Some(text.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Lax, A::Error> {
                pass_seq(seq).map(|_| Lax(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Lax, A::Error> {
                pass_map(map).map(|()| Lax(None))
            }
        }
        from.deserialize_any(Seen)
    }
}

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for LaxBlock<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Seen<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for Seen<T> {
            type Value = LaxBlock<T>;
            any_type! { visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_unit(), visit_none(), visit_str(&str), }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<LaxBlock<T>, A::Error> {
                pass_seq(seq).map(|_| LaxBlock::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LaxBlock<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(LaxBlock)
            }
        }
        from.deserialize_any(Seen(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Seen;
        impl<'de> Visitor<'de> for Seen {
            type Value = Count;
            any_type! { visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str), }
            fn visit_unit<E: de::Error>(self) -> Result<Count, E> {
                Ok(Count(Some(0)))
            }
            fn visit_none<E: de::Error>(self) -> Result<Count, E> {
                Ok(Count(Some(0)))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Count, A::Error> {
                pass_seq(seq).map(|count| Count(Some(count)))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Count, A::Error> {
                pass_map(map).map(|()| Count(None))
            }
        }
        from.deserialize_any(Seen)
    }
}
