//! Values made from a schema, by the Avro library alone: an oracle that shares no code with our codec.
#![allow(unreachable_pub, dead_code)]

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::types::Value;
use proptest::prelude::*;

/// Runs a generic function for every record type of the topic table.
#[macro_export]
macro_rules! for_every_record {
    ($check:ident) => {{
        $check::<sluice_schemas::OutboundCommand>();
        $check::<sluice_schemas::LedgerEntry>();
        $check::<sluice_schemas::MessageStatus>();
        $check::<sluice_schemas::ReceivedMessage>();
        $check::<sluice_schemas::MessageState>();
        $check::<sluice_schemas::FollowUp>();
        $check::<sluice_schemas::InboundWebhook>();
        $check::<sluice_schemas::Account>();
        $check::<sluice_schemas::Session>();
        $check::<sluice_schemas::SessionStatus>();
        $check::<sluice_schemas::SessionLink>();
        $check::<sluice_schemas::SessionCommand>();
        $check::<sluice_schemas::DeadLetter>();
        // A record added to the topic table must be added here.
        assert_eq!(sluice_schemas::topics::TABLE.len(), 13);
    }};
}

/// Named types of a schema, by full name.
pub type Names = HashMap<String, Schema>;

pub fn names(schema: &Schema) -> Names {
    let mut names = Names::new();
    collect(schema, &mut names);
    names
}

fn collect(schema: &Schema, names: &mut Names) {
    if let Some(name) = schema.name()
        && !matches!(schema, Schema::Ref { .. })
    {
        names.insert(name.fullname(None), schema.clone());
    }
    match schema {
        Schema::Record(record) => record.fields.iter().for_each(|field| collect(&field.schema, names)),
        Schema::Union(union) => union.variants().iter().for_each(|schema| collect(schema, names)),
        Schema::Array(array) => collect(&array.items, names),
        Schema::Map(map) => collect(&map.types, names),
        _ => {}
    }
}

/// Any value of a schema. Maps have at most one entry: the library's have no order, so the bytes of more
/// would not be comparable.
pub fn any_value(schema: &Schema, names: &Names) -> BoxedStrategy<Value> {
    match schema {
        Schema::Null => Just(Value::Null).boxed(),
        Schema::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        Schema::Int => any::<i32>().prop_map(Value::Int).boxed(),
        Schema::Long => any::<i64>().prop_map(Value::Long).boxed(),
        Schema::TimestampMillis => any::<i64>().prop_map(Value::TimestampMillis).boxed(),
        Schema::Double => (-1e12..1e12_f64).prop_map(Value::Double).boxed(),
        Schema::Bytes => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::Bytes).boxed(),
        Schema::String => ".{0,12}".prop_map(Value::String).boxed(),
        Schema::Enum(one) => {
            let symbols = one.symbols.clone();
            (0..symbols.len()).prop_map(move |n| Value::Enum(n as u32, symbols[n].clone())).boxed()
        }
        Schema::Array(array) => {
            proptest::collection::vec(any_value(&array.items, names), 0..3).prop_map(Value::Array).boxed()
        }
        Schema::Map(map) => {
            let entry = (".{0,8}", any_value(&map.types, names));
            proptest::option::of(entry).prop_map(|entry| Value::Map(entry.into_iter().collect())).boxed()
        }
        Schema::Union(union) => {
            let branches = union.variants().iter().enumerate().map(|(n, branch)| {
                any_value(branch, names)
                    .prop_map(move |value| Value::Union(n as u32, Box::new(value)))
                    .boxed()
            });
            proptest::strategy::Union::new(branches).boxed()
        }
        Schema::Record(record) => {
            let fields: Vec<_> = record
                .fields
                .iter()
                .map(|field| {
                    let name = field.name.clone();
                    any_value(&field.schema, names).prop_map(move |value| (name.clone(), value))
                })
                .collect();
            fields.prop_map(Value::Record).boxed()
        }
        Schema::Ref { name } => any_value(&names[&name.fullname(None)], names),
        other => panic!("our schemas do not use {other:?}"),
    }
}

/// One value in which every field is present and differs from its default. The same in every run.
pub fn sample(schema: &Schema, names: &Names, field: &str) -> Value {
    match schema {
        Schema::Null => Value::Null,
        Schema::Boolean => Value::Boolean(true),
        Schema::Int => Value::Int(-(field.len() as i32)),
        Schema::Long => Value::Long(field.len() as i64 * 1_000_003),
        Schema::TimestampMillis => Value::TimestampMillis(1_700_000_000_000 + field.len() as i64),
        Schema::Double => Value::Double(field.len() as f64 + 0.25),
        Schema::Bytes => Value::Bytes(field.bytes().rev().collect()),
        Schema::String => Value::String(format!("{field} ✓")),
        Schema::Enum(one) => {
            let last = one.symbols.len() - 1;
            Value::Enum(last as u32, one.symbols[last].clone())
        }
        Schema::Array(array) => {
            Value::Array(vec![sample(&array.items, names, field), sample(&array.items, names, field)])
        }
        Schema::Map(map) => {
            Value::Map([(field.to_owned(), sample(&map.types, names, field))].into_iter().collect())
        }
        Schema::Union(union) => {
            let last = union.variants().len() - 1;
            Value::Union(last as u32, Box::new(sample(&union.variants()[last], names, field)))
        }
        Schema::Record(record) => Value::Record(
            record
                .fields
                .iter()
                .map(|field| (field.name.clone(), sample(&field.schema, names, &field.name)))
                .collect(),
        ),
        Schema::Ref { name } => sample(&names[&name.fullname(None)], names, field),
        other => panic!("our schemas do not use {other:?}"),
    }
}
