//! The check that runs at the end of every test: it must be able to fail.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sqlx::{Connection as _, Executor as _, PgConnection, SqliteConnection};

use super::*;

/// Takes the line of a seat that was taken out of the ledger, as a fault would leave it.
const LOSE_A_LINE: &str = "DELETE FROM seat_ledger WHERE sequence = (SELECT MIN(sequence) FROM seat_ledger)";

async fn execute(database_url: &str, sql: &'static str) -> Result<()> {
    if database_url.starts_with("sqlite:") {
        SqliteConnection::connect(database_url).await?.execute(sql).await?;
    } else {
        PgConnection::connect(database_url).await?.execute(sql).await?;
    }
    Ok(())
}

/// B13: with the tenant and both numbers.
#[test]
fn a_ledger_that_does_not_add_up_to_the_active_accounts_fails_the_test_when_its_system_ends() -> Result<()> {
    apart(async {
        for sqlite in [true, false] {
            let options = Options {
                sqlite,
                without_workers: true,
                ..Options::default()
            };
            let system = System::start(options).await?;
            let right = system.tenant(api::Tenant::default()).await?;
            let house = House {
                clients: system.clients()?,
                tenant: system.tenant(api::Tenant::default()).await?,
                beside: None,
                system,
            };
            for name in ["ana", "bo", "cy"] {
                house.active(name).await?;
            }
            // Whoever has expired takes no seat, and is ACTIVE in the row until somebody writes it down.
            let dee = house.active("dee").await?;
            house.expire(&dee, Some(house.after(HOUR))).await?;
            house.system.check_seats().await?;
            house.system.advance(HOUR).await?;
            assert_eq!(house.usage().await?.0, 3);
            house.system.check_seats().await?;

            execute(&house.system.database_url, LOSE_A_LINE).await?;
            let told = house
                .system
                .check_seats()
                .await
                .expect_err("one line lacks")
                .to_string();
            let expected = |active: i64| {
                let (tenant, sum) = (&house.tenant, active - 1);
                format!(
                    "tenant {tenant}: its ledger adds up to {sum}, its count of seats is {active}, and {active} accounts are ACTIVE"
                )
            };
            let (four, three) = (expected(4), expected(3));
            assert!(told == four || told == three, "{told}");
            assert!(!told.contains(&right), "{told}");
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(house)));
            let panic = dropped.expect_err("a system with such a ledger ends in a panic");
            // The expiry may have been written down in between.
            let told = panic.downcast_ref::<String>().expect("a text");
            assert!(*told == four || *told == three, "{told}");
        }
        Ok(())
    })
}
