//! What every store promises to `usher-core` (its `ports`). Each promise is tested on PostgreSQL and on SQLite; what one of
//! them cannot show, such as two writers at once, is tested where it can be.

mod audit;
mod conflicts;
mod connection;
mod erasures;
mod following;
mod housekeeping;
mod inactivity;
mod jobs;
mod lanes;
mod lists;
mod loading;
mod people;
mod round_trip;
mod stage;
mod templates;
mod timers;
mod warned;

/// Makes a test of each function, on both databases.
macro_rules! on_both {
    ($($name:ident,)*) => {
        mod on_postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() -> anyhow::Result<()> {
                    super::$name($crate::store::stage::Stage::postgres().await?).await
                }
            )*
        }

        mod on_sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() -> anyhow::Result<()> {
                    super::$name($crate::store::stage::Stage::sqlite().await?).await
                }
            )*
        }
    };
}

use on_both;
