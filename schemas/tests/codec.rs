//! Our codec against the Avro library's, for every record type.
#![allow(clippy::unwrap_used)]

mod support;

use apache_avro::types::Value;
use apache_avro::{Schema, from_avro_datum, to_avro_datum};
use proptest::test_runner::{Config, TestRunner};
use sluice_schemas::codec::{self, Decoder, Error, Record, SchemaRef, split};
use sluice_schemas::wire::Reader;
use sluice_schemas::{Account, EntryKind, LedgerEntry, MessageStatus, Status};
use support::{any_value, names, sample};

fn ours<T: Record>(datum: &[u8]) -> T {
    let mut reader = Reader::new(datum);
    let record = T::read(&mut reader).unwrap();
    reader.finish().unwrap();
    record
}

fn same_bytes_and_values<T: Record + PartialEq>() {
    let schema = Schema::parse_str(T::SCHEMA).unwrap();
    let names = names(&schema);
    let config = Config { cases: 128, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&any_value(&schema, &names), |value| {
        let theirs = to_avro_datum(&schema, value.clone()).unwrap();
        let record: T = ours(&theirs);
        let mut written = Vec::new();
        record.put(&mut written);
        assert_eq!(written, theirs, "{}: the same bytes", T::NAME);
        let read_back = from_avro_datum(&schema, &mut &written[..], None).unwrap();
        assert_eq!(read_back, value, "{}: the same values", T::NAME);
        Ok(())
    });
    result.unwrap();
}

#[test]
fn our_bytes_are_those_of_the_avro_library() {
    for_every_record!(same_bytes_and_values);
}

/// The schema with one more nullable field, as a later version would have it.
fn newer(schema: &str) -> String {
    let mut schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    let field = serde_json::json!({ "name": "later", "type": ["null", "string"], "default": null });
    schema["fields"].as_array_mut().unwrap().insert(0, field);
    schema.to_string()
}

/// The schema without the fields that have a default, as an earlier version would have had it.
fn older(schema: &str) -> String {
    let mut schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    schema["fields"].as_array_mut().unwrap().retain(|field| {
        // A field whose type is defined in it and used by others must stay.
        field.get("default").is_none() || field["type"].get("symbols").is_some()
    });
    schema.to_string()
}

fn framed(id: u32, datum: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), datum].concat()
}

fn other_versions_resolve<T: Record + PartialEq>() {
    let schema = Schema::parse_str(T::SCHEMA).unwrap();
    let full = sample(&schema, &names(&schema), T::NAME);
    let mut decoder = Decoder::<T>::new(1);
    let expected: T = ours(&to_avro_datum(&schema, full.clone()).unwrap());

    let later = newer(T::SCHEMA);
    decoder.learn(SchemaRef::Id(2), &later).unwrap();
    let Value::Record(mut fields) = full else { panic!("a record") };
    let extra = Value::Union(1, Box::new(Value::String("x".to_owned())));
    let mut with_extra = fields.clone();
    with_extra.insert(0, ("later".to_owned(), extra));
    let datum = to_avro_datum(&Schema::parse_str(&later).unwrap(), Value::Record(with_extra)).unwrap();
    assert_eq!(decoder.decode(&framed(2, &datum), None).unwrap(), expected, "{}: newer", T::NAME);

    let earlier = older(T::SCHEMA);
    let Ok(earlier_schema) = Schema::parse_str(&earlier) else {
        panic!("{}: {earlier}", T::NAME);
    };
    let Schema::Record(shape) = &earlier_schema else { panic!("a record") };
    fields.retain(|(name, _)| shape.fields.iter().any(|field| field.name == *name));
    decoder.learn(SchemaRef::Id(3), &earlier).unwrap();
    let datum = to_avro_datum(&earlier_schema, Value::Record(fields.clone())).unwrap();
    let decoded = decoder.decode(&framed(3, &datum), None).unwrap();
    // What the earlier version had is there; what it had not has its default.
    let mut written = Vec::new();
    decoded.put(&mut written);
    let Value::Record(back) = from_avro_datum(&schema, &mut &written[..], None).unwrap() else {
        panic!("a record")
    };
    for (name, value) in &fields {
        let (_, found) = back.iter().find(|(found, _)| found == name).unwrap();
        assert_eq!(found, value, "{}.{name}", T::NAME);
    }
}

#[test]
fn records_of_newer_and_older_writers_resolve() {
    for_every_record!(other_versions_resolve);
}

#[test]
fn a_symbol_this_version_does_not_know_reads_as_unknown() {
    let later = MessageStatus::SCHEMA.replacen("\"CANCEL_TOO_LATE\"", "\"CANCEL_TOO_LATE\",\"BRAND_NEW\"", 1);
    assert_ne!(later, MessageStatus::SCHEMA);
    let schema = Schema::parse_str(&later).unwrap();
    let Value::Record(mut fields) = sample(&schema, &names(&schema), "") else { panic!("a record") };
    let status = fields.iter_mut().find(|(name, _)| name == "status").unwrap();
    let Schema::Enum(symbols) = &names(&schema)["sluice.v1.Status"] else { panic!("an enum") };
    let index = symbols.symbols.iter().position(|symbol| symbol == "BRAND_NEW").unwrap();
    status.1 = Value::Enum(index as u32, "BRAND_NEW".to_owned());
    let datum = to_avro_datum(&schema, Value::Record(fields)).unwrap();
    let mut decoder = Decoder::<MessageStatus>::new(1);
    decoder.learn(SchemaRef::Id(2), &later).unwrap();
    let decoded = decoder.decode(&framed(2, &datum), None).unwrap();
    assert_eq!(decoded.status, Status::Unknown);
    assert_eq!(decoded.message_id.as_deref(), Some("message_id ✓"), "the rest is there");
}

#[test]
fn both_wire_forms_are_read() {
    let entry = LedgerEntry { kind: EntryKind::Fence, epoch: -1, ..LedgerEntry::default() };
    let value = codec::encode(7, &entry);
    assert_eq!(value[..5], [0, 0, 0, 0, 7]);
    let mut decoder = Decoder::<LedgerEntry>::new(7);
    assert_eq!(decoder.decode(&value, None).unwrap(), entry);
    let guid = uuid::Uuid::from_u128(0x1234);
    decoder.learn(SchemaRef::Guid(guid), LedgerEntry::SCHEMA).unwrap();
    let header = [&[1][..], guid.as_bytes()].concat();
    assert_eq!(decoder.decode(&value[5..], Some(&header)).unwrap(), entry);
}

#[test]
fn bad_bytes_have_a_named_error_and_never_panic() {
    assert!(matches!(split(b"", None), Err(Error::Magic { .. })));
    assert!(matches!(split(b"{}", None), Err(Error::Magic { .. })));
    assert!(matches!(split(&[0, 1, 2], None), Err(Error::Magic { .. })));
    assert!(matches!(split(b"x", Some(&[1, 2])), Err(Error::Magic { .. })));
    assert!(matches!(split(b"x", Some(&[])), Err(Error::Magic { .. })));
    let decoder = Decoder::<Account>::new(1);
    let value = codec::encode(1, &Account { account_id: "a".to_owned(), ..Account::default() });
    for end in 5..value.len() {
        assert!(matches!(decoder.decode(&value[..end], None), Err(Error::Datum { .. })), "cut at {end}");
    }
    let longer = [&value[..], &[0]].concat();
    assert!(matches!(decoder.decode(&longer, None), Err(Error::Datum { .. })), "a byte too many");
    let unknown = framed(9, &value[5..]);
    assert!(matches!(decoder.decode(&unknown, None), Err(Error::UnknownSchema(SchemaRef::Id(9)))));
}

fn any_bytes_are_refused_or_read<T: Record + PartialEq>() {
    let decoder = Decoder::<T>::new(1);
    let config = Config { cases: 256, failure_persistence: None, ..Config::default() };
    let bytes = proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..200);
    let result = TestRunner::new(config).run(&bytes, |bytes| {
        let _ = decoder.decode(&framed(1, &bytes), None);
        Ok(())
    });
    result.unwrap();
}

#[test]
fn no_bytes_make_the_decoder_panic_or_reserve_without_end() {
    for_every_record!(any_bytes_are_refused_or_read);
    // A count of 2^62 items of which none is there.
    let lie = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    let mut reader = Reader::new(&lie);
    assert!(reader.array("items", |reader| reader.long("item")).is_err());
}
