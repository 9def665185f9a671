//! What a check's `probe` may be: one key, whichever side runs it.

use std::{fmt, sync::LazyLock};

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, EnumAccess, Error as _, IntoDeserializer as _, MapAccess, VariantAccess, Visitor,
        value::StringDeserializer,
    },
    forward_to_deserialize_any,
};

use crate::{report::Probe, system::SystemProbe};

/// A probe as the document has it.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(untagged))]
pub(super) enum AnyProbe {
    /// One that an agent can run, too.
    Wire(Probe),
    /// One that only the coordinator runs.
    System(SystemProbe),
}

static KINDS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| Probe::KINDS.iter().chain(&SystemProbe::KINDS).copied().collect());

impl<'de> Deserialize<'de> for AnyProbe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OneProbe)
    }
}

/// Reads the key and hands what is under it to the enumeration that has it.
/// An untagged enumeration would lose the places of mistakes.
struct OneProbe;

impl<'de> Visitor<'de> for OneProbe {
    type Value = AnyProbe;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a probe such as `tcp: {address: 'server:22'}`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AnyProbe, A::Error> {
        let kind: String = map.next_key()?.ok_or_else(|| A::Error::custom("a check needs a probe"))?;
        let probe = if SystemProbe::KINDS.contains(&kind.as_str()) {
            AnyProbe::System(SystemProbe::deserialize(Variant { kind, map: &mut map })?)
        } else if Probe::KINDS.contains(&kind.as_str()) {
            AnyProbe::Wire(Probe::deserialize(Variant { kind, map: &mut map })?)
        } else {
            return Err(A::Error::unknown_variant(&kind, &KINDS));
        };
        match map.next_key::<String>()? {
            None => Ok(probe),
            Some(second) => Err(A::Error::custom(format!("a check has one probe; make `{second}` a check of its own"))),
        }
    }
}

/// An entry of a map as a variant of an enumeration.
struct Variant<'a, A> {
    kind: String,
    map: &'a mut A,
}

impl<'de, A: MapAccess<'de>> Deserializer<'de> for Variant<'_, A> {
    type Error = A::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        visitor.visit_enum(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, 'a, A: MapAccess<'de>> EnumAccess<'de> for Variant<'a, A> {
    type Error = A::Error;
    type Variant = Content<'a, A>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Content<'a, A>), A::Error> {
        let kind: StringDeserializer<A::Error> = self.kind.into_deserializer();
        Ok((seed.deserialize(kind)?, Content(self.map)))
    }
}

struct Content<'a, A>(&'a mut A);

impl<'de, A: MapAccess<'de>> VariantAccess<'de> for Content<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.next_value()
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, A::Error> {
        self.0.next_value_seed(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, _visitor: V) -> Result<V::Value, A::Error> {
        Err(A::Error::custom("a probe is a map"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, A::Error> {
        Err(A::Error::custom("a probe is a map"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each name leads to a variant: one that is only in the list would be
    /// refused with itself as the nearest name.
    #[test]
    fn every_kind_is_read() {
        for kind in KINDS.iter() {
            let error = crate::yaml::read::<AnyProbe>(&format!("{kind}: {{no_such_key: 1}}\n")).expect_err("refused");
            assert!(error.message.contains("no_such_key"), "{kind}: {error}");
        }
    }
}
