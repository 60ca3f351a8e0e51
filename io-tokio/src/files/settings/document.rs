//! config.toml as text: read with the line of each value, edited without touching what else stands there.

use std::path::Path;

use toml_edit::{Array, Decor, Document, Item, Table, TableLike, Value};

use super::value::{Raw, Written};
use crate::files::Error;
use crate::files::entry::without_mark;

const REMEDY: &str = "mend it by hand; see https://toml.io for the form of such a file";

/// A value that stands in the file.
pub(super) struct Leaf {
    /// Its dotted name.
    pub(super) name: String,
    /// The line of its value, from 1.
    pub(super) line: usize,
    pub(super) value: Raw,
}

/// All values of the file, in order.
pub(super) fn leaves(bytes: &[u8], path: &Path) -> Result<Vec<Leaf>, Error> {
    let text = text(bytes, path)?;
    let document = parse(text, path)?;
    let mut leaves = Vec::new();
    walk(document.as_table(), "", &mut |name, item| {
        let line = item.span().map_or(1, |span| line_at(text, span.start));
        let Some(value) = raw(item) else {
            let what = format!("`{name}` is neither a text, a number, a truth value nor a list of texts");
            return Err(Error::line(path, line, what, "`bidmesh config show` tells its form"));
        };
        leaves.push(Leaf { name, line, value });
        Ok(())
    })?;
    Ok(leaves)
}

/// The text with `name` set to `value`, or removed.
pub(super) fn edit(bytes: &[u8], path: &Path, name: &str, value: Option<Written>) -> Result<String, Error> {
    let mut document = parse(text(bytes, path)?, path)?.into_mut();
    let (group, leaf) = name.rsplit_once('.').unwrap_or(("", name));
    let mut table: &mut dyn TableLike = document.as_table_mut();
    if !group.is_empty() {
        let place = table.entry(group).or_insert_with(|| Item::Table(Table::new()));
        table = place.as_table_like_mut().ok_or_else(|| {
            Error::file(
                path,
                format!("`{group}` is no table"),
                format!("write `[{group}]` on a line of its own"),
            )
        })?;
    }
    match value.as_ref().and_then(toml) {
        None => {
            table.remove(leaf);
        }
        Some(mut new) => match table.get_mut(leaf).and_then(Item::as_value_mut) {
            // A comment behind the value belongs to the setting.
            Some(old) => {
                let decor: Decor = old.decor().clone();
                *new.decor_mut() = decor;
                *old = new;
            }
            None => {
                table.insert(leaf, Item::Value(new));
            }
        },
    }
    Ok(document.to_string())
}

fn text<'a>(bytes: &'a [u8], path: &Path) -> Result<&'a str, Error> {
    let bytes = without_mark(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or(bytes);
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        Error::line(path, line, "it is not UTF-8 text", REMEDY)
    })
}

fn parse<'a>(text: &'a str, path: &Path) -> Result<Document<&'a str>, Error> {
    Document::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_at(text, span.start));
        Error::line(path, line, error.message().replace('\n', " "), REMEDY)
    })
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

/// Visits each value below `table` with its dotted name.
fn walk(
    table: &dyn TableLike,
    above: &str,
    visit: &mut dyn FnMut(String, &Item) -> Result<(), Error>,
) -> Result<(), Error> {
    for (key, item) in table.iter() {
        let name = if above.is_empty() { key.to_owned() } else { format!("{above}.{key}") };
        match item.as_table_like() {
            Some(inner) => walk(inner, &name, visit)?,
            None => visit(name, item)?,
        }
    }
    Ok(())
}

/// A value as text, as it would be written in a variable.
fn raw(item: &Item) -> Option<Raw> {
    match item.as_array() {
        Some(array) => array.iter().map(scalar).collect::<Option<_>>().map(Raw::Many),
        None => item.as_value().and_then(scalar).map(Raw::One),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.value().clone()),
        Value::Integer(number) => Some(number.value().to_string()),
        Value::Float(number) => Some(number.value().to_string()),
        Value::Boolean(flag) => Some(flag.value().to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::InlineTable(_) => None,
    }
}

/// A value as TOML; `None`: not set.
fn toml(written: &Written) -> Option<Value> {
    match written {
        Written::Unset => None,
        Written::Flag(flag) => Some((*flag).into()),
        // What is too large for TOML is no value of any setting.
        Written::Whole(number) => Some(i64::try_from(*number).unwrap_or(i64::MAX).into()),
        Written::Text(text) => Some(text.as_str().into()),
        Written::List(list) => Some(list.iter().map(String::as_str).collect::<Array>().into()),
        Written::Secret(secret) => Some(secret.reveal().into()),
    }
}
