//! Many rows in one statement.
//!
//! On PostgreSQL the rows travel as one array a column (`UNNEST`), so that the statement, and with it the server's plan,
//! is the same for every number of rows. The driver cannot bind arrays with gaps, so a NULL travels as a value that the
//! column never has, and `NULLIF` takes it back. On SQLite they are multi-row `VALUES`, in chunks below its limit of
//! bound values.

use std::sync::LazyLock;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::sea_query::ArrayType;
use sea_orm::{DbBackend, EntityTrait, IdenStatic, Iterable as _, ModelTrait, PrimaryKeyToColumn as _, Value};
use uuid::Uuid;

use crate::sql::{Sql, is_nullable};

/// Bound values of one SQLite statement: its limit is 32,766.
const SQLITE_VALUES: usize = 30_000;

/// What happens to a row whose key exists.
#[derive(Debug, Clone, Copy)]
pub(crate) enum OnConflict<'a, C> {
    /// The statement fails: the row had to be new.
    Fail,
    /// It stays as it is.
    Keep,
    /// It is replaced.
    Replace,
    /// Only these columns are.
    ReplaceOnly(&'a [C]),
}

/// The statements that write these rows: one, or several chunks on SQLite. Columns in `generated` get their defaults.
pub(crate) fn insert<E: EntityTrait>(
    backend: DbBackend,
    rows: &[E::Model],
    generated: &[&str],
    on_conflict: OnConflict<'_, E::Column>,
) -> Vec<Sql> {
    let columns: Vec<E::Column> = E::Column::iter().filter(|c| !generated.contains(&c.as_str())).collect();
    let names = columns.iter().map(IdenStatic::as_str).collect::<Vec<_>>().join(", ");
    let head = format!("INSERT INTO {} ({names}) ", E::default().table_name());
    let tail = conflict_clause::<E>(&columns, on_conflict);
    if rows.is_empty() {
        return Vec::new();
    }
    if backend == DbBackend::Postgres {
        let mut sql = Sql::new(backend, head);
        unnest::<E>(&mut sql, &columns, rows);
        sql.push(&tail);
        return vec![sql];
    }
    rows.chunks(SQLITE_VALUES / columns.len())
        .map(|chunk| {
            let mut sql = Sql::new(backend, head.clone());
            values::<E>(&mut sql, &columns, chunk);
            sql.push(&tail);
            sql
        })
        .collect()
}

/// The statement that deletes the rows of some keys of a table, named with the columns: none where there are none.
pub(crate) fn delete<const N: usize>(
    backend: DbBackend,
    (table, columns): (&str, &str),
    keys: impl IntoIterator<Item = [Value; N]>,
) -> Option<Sql> {
    let mut keys = keys.into_iter().peekable();
    keys.peek()?;
    let mut sql = Sql::new(backend, format!("DELETE FROM {table} WHERE ({columns}) IN ("));
    sql.set(keys).push(")");
    Some(sql)
}

/// The statements that write rows which exist, and are locked: on PostgreSQL an `UPDATE`, which spares looking for a
/// conflict; SQLite has the same through [`insert`].
pub(crate) fn update<E: EntityTrait>(backend: DbBackend, rows: &[E::Model]) -> Vec<Sql> {
    if backend != DbBackend::Postgres || rows.is_empty() {
        return insert::<E>(backend, rows, &[], OnConflict::Replace);
    }
    let columns: Vec<E::Column> = E::Column::iter().collect();
    let names: Vec<&str> = columns.iter().map(IdenStatic::as_str).collect();
    let key: Vec<&str> = E::PrimaryKey::iter().map(|part| part.into_column().as_str()).collect();
    let clause = |names: Vec<&str>, prefix: &str, between: &str| {
        let parts = names.iter().map(|name| format!("{prefix}{name} = new.{name}"));
        parts.collect::<Vec<_>>().join(between)
    };
    let replaced = names.iter().copied().filter(|name| !key.contains(name)).collect();
    let mut sql = Sql::new(
        backend,
        format!(
            "UPDATE {} AS old SET {} FROM (",
            E::default().table_name(),
            clause(replaced, "", ", ")
        ),
    );
    unnest::<E>(&mut sql, &columns, rows);
    sql.push(&format!(
        ") AS new({}) WHERE {}",
        names.join(", "),
        clause(key, "old.", " AND ")
    ));
    vec![sql]
}

/// The rows as a query, in their order, since generated numbers follow it.
fn unnest<E: EntityTrait>(sql: &mut Sql, columns: &[E::Column], rows: &[E::Model]) {
    let mut names = Vec::with_capacity(columns.len());
    let mut selected = Vec::with_capacity(columns.len());
    let mut arrays = Vec::with_capacity(columns.len());
    for (index, column) in columns.iter().enumerate() {
        let values: Vec<Value> = rows.iter().map(|row| row.get(*column)).collect();
        let kind = Kind::of(&values[0]);
        let name = format!("c{index}");
        let value = if is_nullable(column) {
            format!("NULLIF({name}, {})", kind.gap_text())
        } else {
            name.clone()
        };
        selected.push(format!("{value}{}", kind.cast()));
        names.push(name);
        let values = values.into_iter().map(Kind::fill).collect();
        arrays.push((kind, Value::Array(kind.array(), Some(Box::new(values)))));
    }
    sql.push("SELECT ").push(&selected.join(", ")).push(" FROM UNNEST(");
    for (index, (kind, array)) in arrays.into_iter().enumerate() {
        sql.push(if index == 0 { "" } else { ", " });
        sql.bind(array).push("::").push(kind.array_name());
    }
    sql.push(") WITH ORDINALITY AS rows(")
        .push(&names.join(", "))
        .push(", place) ORDER BY place");
}

fn values<E: EntityTrait>(sql: &mut Sql, columns: &[E::Column], rows: &[E::Model]) {
    sql.push("VALUES ");
    for (index, row) in rows.iter().enumerate() {
        sql.push(if index == 0 { "(" } else { ", (" });
        for (index, column) in columns.iter().enumerate() {
            sql.push(if index == 0 { "" } else { ", " }).bind(row.get(*column));
        }
        sql.push(")");
    }
}

fn conflict_clause<E: EntityTrait>(columns: &[E::Column], on_conflict: OnConflict<'_, E::Column>) -> String {
    let key: Vec<&str> = E::PrimaryKey::iter().map(|part| part.into_column().as_str()).collect();
    let replaced: Vec<&str> = match on_conflict {
        OnConflict::Fail => return String::new(),
        OnConflict::Keep => return format!(" ON CONFLICT ({}) DO NOTHING", key.join(", ")),
        OnConflict::Replace => columns
            .iter()
            .map(IdenStatic::as_str)
            .filter(|name| !key.contains(name))
            .collect(),
        OnConflict::ReplaceOnly(columns) => columns.iter().map(IdenStatic::as_str).collect(),
    };
    let assignments: Vec<String> = replaced
        .iter()
        .map(|name| format!("{name} = excluded.{name}"))
        .collect();
    format!(
        " ON CONFLICT ({}) DO UPDATE SET {}",
        key.join(", "),
        assignments.join(", ")
    )
}

/// Which array a column travels in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Uuid,
    Text,
    Json,
    Time,
    BigInt,
    Int,
    SmallInt,
    Bytes,
}

/// Stands for NULL: no instant of ours lies before our era.
static NO_TIME: LazyLock<DateTime<Utc>> = LazyLock::new(|| DateTime::UNIX_EPOCH - TimeDelta::seconds(62_135_596_800));

impl Kind {
    fn of(value: &Value) -> Self {
        match value {
            Value::Uuid(_) => Self::Uuid,
            Value::Json(_) => Self::Json,
            Value::ChronoDateTimeUtc(_) => Self::Time,
            Value::BigInt(_) => Self::BigInt,
            Value::Int(_) => Self::Int,
            Value::SmallInt(_) => Self::SmallInt,
            Value::Bytes(_) => Self::Bytes,
            _ => Self::Text,
        }
    }

    fn array(self) -> ArrayType {
        match self {
            Self::Uuid => ArrayType::Uuid,
            Self::Text | Self::Json => ArrayType::String,
            Self::Time => ArrayType::ChronoDateTimeUtc,
            Self::BigInt => ArrayType::BigInt,
            Self::Int => ArrayType::Int,
            Self::SmallInt => ArrayType::SmallInt,
            Self::Bytes => ArrayType::Bytes,
        }
    }

    fn array_name(self) -> &'static str {
        match self {
            Self::Uuid => "uuid[]",
            Self::Text | Self::Json => "text[]",
            Self::Time => "timestamptz[]",
            Self::BigInt => "bigint[]",
            Self::Int => "integer[]",
            Self::SmallInt => "smallint[]",
            Self::Bytes => "bytea[]",
        }
    }

    fn cast(self) -> &'static str {
        if self == Self::Json { "::jsonb" } else { "" }
    }

    /// The value that stands for NULL, in SQL. Numbers and bytes are never NULL here.
    fn gap_text(self) -> &'static str {
        match self {
            Self::Uuid => "'00000000-0000-0000-0000-000000000000'::uuid",
            Self::Text | Self::Json => "''",
            Self::Time => "'0001-01-01T00:00:00Z'::timestamptz",
            Self::BigInt | Self::Int | Self::SmallInt | Self::Bytes => "NULL",
        }
    }

    /// The value as it travels.
    fn fill(value: Value) -> Value {
        match value {
            Value::Uuid(None) => Uuid::nil().into(),
            Value::String(None) | Value::Json(None) => String::new().into(),
            Value::Json(Some(json)) => json.to_string().into(),
            Value::ChronoDateTimeUtc(None) => (*NO_TIME).into(),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike as _, Timelike as _};

    use super::*;

    #[test]
    fn the_instant_that_stands_for_null_is_the_one_in_the_statement() {
        assert_eq!(
            (NO_TIME.year(), NO_TIME.month(), NO_TIME.day(), NO_TIME.hour()),
            (1, 1, 1, 0)
        );
    }
}
