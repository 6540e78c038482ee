//! Statements that are written out: text and values grow together, and placeholders get their numbers at the end.

use std::fmt::Write as _;

use sea_orm::sea_query::ArrayType;
use sea_orm::{ColumnTrait, DbBackend, EntityTrait, IdenStatic as _, Iterable as _, Statement, Value};

/// A statement that is being written.
#[derive(Debug, Clone)]
pub(crate) struct Sql {
    backend: DbBackend,
    /// A value stands between each piece and the next.
    pieces: Vec<String>,
    values: Vec<Value>,
}

impl Sql {
    pub(crate) fn new(backend: DbBackend, text: impl Into<String>) -> Self {
        Self {
            backend,
            pieces: vec![text.into()],
            values: Vec::new(),
        }
    }

    pub(crate) fn is_postgres(&self) -> bool {
        self.backend == DbBackend::Postgres
    }

    /// Adds text.
    pub(crate) fn push(&mut self, text: &str) -> &mut Self {
        match self.pieces.last_mut() {
            Some(last) => last.push_str(text),
            None => self.pieces.push(text.to_owned()),
        }
        self
    }

    /// Adds a value.
    pub(crate) fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        self.pieces.push(String::new());
        self
    }

    /// Adds another statement as it stands.
    pub(crate) fn append(&mut self, other: Self) -> &mut Self {
        let mut pieces = other.pieces.into_iter();
        if let Some(first) = pieces.next() {
            self.push(&first);
        }
        self.pieces.extend(pieces);
        self.values.extend(other.values);
        self
    }

    /// Adds a set of keys as a query, for `(a, b) IN (…)`: `UNNEST` over one array a column on PostgreSQL, so that the
    /// statement is the same for every size of the set; `VALUES` on SQLite. Keys are UUIDs, texts, integers and instants.
    pub(crate) fn set<const N: usize>(&mut self, keys: impl IntoIterator<Item = [Value; N]>) -> &mut Self {
        if self.is_postgres() {
            let mut columns: [Vec<Value>; N] = std::array::from_fn(|_| Vec::new());
            for key in keys {
                for (column, value) in columns.iter_mut().zip(key) {
                    column.push(value);
                }
            }
            self.push("SELECT * FROM UNNEST(");
            for (index, column) in columns.into_iter().enumerate() {
                let (array, name) = key_type(column.first());
                self.push(if index == 0 { "" } else { ", " });
                self.bind(Value::Array(array, Some(Box::new(column)))).push("::");
                self.push(name);
            }
            self.push(")")
        } else {
            self.push("VALUES ");
            for (row, key) in keys.into_iter().enumerate() {
                self.push(if row == 0 { "(" } else { ", (" });
                for (index, value) in key.into_iter().enumerate() {
                    self.push(if index == 0 { "" } else { ", " }).bind(value);
                }
                self.push(")");
            }
            self
        }
    }

    /// Adds whether a column is any of these values: one array on PostgreSQL, whose statements are cached by their text.
    pub(crate) fn is_any(&mut self, column: &str, values: impl IntoIterator<Item = Value>) -> &mut Self {
        self.list(column, " = ANY(", " IN (", values)
    }

    /// Adds whether a column is none of these values.
    pub(crate) fn is_none(&mut self, column: &str, values: impl IntoIterator<Item = Value>) -> &mut Self {
        self.list(column, " <> ALL(", " NOT IN (", values)
    }

    fn list(&mut self, column: &str, array: &str, list: &str, values: impl IntoIterator<Item = Value>) -> &mut Self {
        let values: Vec<Value> = values.into_iter().collect();
        self.push(column);
        if self.is_postgres() {
            let (kind, name) = key_type(values.first());
            let values = Value::Array(kind, Some(Box::new(values)));
            return self.push(array).bind(values).push("::").push(name).push(")");
        }
        self.push(list);
        for (index, value) in values.into_iter().enumerate() {
            self.push(if index == 0 { "" } else { ", " }).bind(value);
        }
        self.push(")")
    }

    /// Puts `FOR UPDATE` where there are row locks.
    pub(crate) fn for_update(&mut self, of: &str) -> &mut Self {
        if self.is_postgres() {
            self.push(" FOR UPDATE OF ").push(of);
        }
        self
    }

    /// Puts `FOR SHARE` where there are row locks: the rows stay, and others may hold them too.
    pub(crate) fn for_share(&mut self, of: &str) -> &mut Self {
        if self.is_postgres() {
            self.push(" FOR SHARE OF ").push(of);
        }
        self
    }

    pub(crate) fn into_statement(self) -> Statement {
        let mut text = String::new();
        let last = self.pieces.len().saturating_sub(1);
        for (index, piece) in self.pieces.iter().enumerate() {
            text.push_str(piece);
            if index == last {
                break;
            }
            if self.backend == DbBackend::Postgres {
                // Writing to a String cannot fail.
                let _ = write!(text, "${}", index + 1);
            } else {
                text.push('?');
            }
        }
        Statement::from_sql_and_values(self.backend, text, self.values)
    }
}

/// The columns of an entity, each with the table's alias before it. They are always named: under a prepared `SELECT *` no
/// migration could add a column.
pub(crate) fn columns_of<E: EntityTrait>(alias: &str) -> String {
    E::Column::iter()
        .map(|column| format!("{alias}.{}", column.as_str()))
        .collect::<Vec<_>>()
        .join(", ")
}

fn key_type(value: Option<&Value>) -> (ArrayType, &'static str) {
    match value {
        Some(Value::Uuid(_)) => (ArrayType::Uuid, "uuid[]"),
        Some(Value::BigInt(_)) => (ArrayType::BigInt, "bigint[]"),
        Some(Value::ChronoDateTimeUtc(_)) => (ArrayType::ChronoDateTimeUtc, "timestamptz[]"),
        Some(Value::SmallInt(_)) => (ArrayType::SmallInt, "smallint[]"),
        _ => (ArrayType::String, "text[]"),
    }
}

/// Whether a column may be empty.
pub(crate) fn is_nullable<C: ColumnTrait>(column: &C) -> bool {
    column.def().is_null()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_set_is_one_array_a_column_on_postgres_and_values_on_sqlite() {
        let keys = || (0..2).map(|n| [Value::from(Uuid::from_u128(n)), Value::from(format!("k{n}"))]);
        let text = |backend| {
            let mut sql = Sql::new(backend, "WHERE x = ");
            sql.bind(1_i64).push(" AND (a, b) IN (").set(keys()).push(")");
            sql.into_statement().sql
        };
        assert_eq!(
            text(DbBackend::Postgres),
            "WHERE x = $1 AND (a, b) IN (SELECT * FROM UNNEST($2::uuid[], $3::text[]))"
        );
        assert_eq!(
            text(DbBackend::Sqlite),
            "WHERE x = ? AND (a, b) IN (VALUES (?, ?), (?, ?))"
        );
    }

    #[test]
    fn a_list_is_one_array_on_postgres() {
        let text = |backend| {
            let mut sql = Sql::new(backend, "");
            sql.is_any("lane", [1_i16.into(), 2_i16.into()])
                .push(" AND ")
                .is_none("lane", [3_i16.into()]);
            sql.into_statement().sql
        };
        assert_eq!(
            text(DbBackend::Postgres),
            "lane = ANY($1::smallint[]) AND lane <> ALL($2::smallint[])"
        );
        assert_eq!(text(DbBackend::Sqlite), "lane IN (?, ?) AND lane NOT IN (?)");
    }

    #[test]
    fn placeholders_are_numbered_over_appended_statements() {
        let mut first = Sql::new(DbBackend::Postgres, "a = ");
        first.bind(1_i64);
        let mut second = Sql::new(DbBackend::Postgres, " AND b = ");
        second.bind(2_i64).push(" END");
        first.append(second);
        assert_eq!(first.into_statement().sql, "a = $1 AND b = $2 END");
    }
}
