//! 2,000 invitations under way while every process is killed again and again, and the broker is restarted (B1, B5, B12, L14,
//! S2, S5). The run is made from a seed, which it prints; `USHER_FAULT_SEED` repeats it.

mod inviting;
mod killing;
mod plan;
mod settling;
mod verdict;

use std::time::Instant;

use anyhow::Result;
use usher_proto::identity::v1::Tenant;
use usher_tests::environment::smtp_sink::SmtpSink;
use usher_tests::system::{Options, System, vars};

use crate::observer::Witness;
use crate::servers::{Servers, servers, tell};
use killing::Progress;
use plan::Plan;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_is_sent_twice_while_every_process_is_killed_again_and_again() -> Result<()> {
    let plan = Plan::of(plan::seed()?);
    tell(&format!("storm: repeat it with {}={}", plan::SEED_VARIABLE, plan.seed));
    let mut turn = servers().await?;
    let Servers { postgres, broker } = &mut *turn;
    let began = Instant::now();

    let sink = SmtpSink::start().await?;
    for person in &plan.people {
        sink.script(&person.address, person.mails.iter().cloned());
    }
    let (database, vhost) = (postgres.database().await?, broker.vhost().await?);
    let listener = Witness::of_broker(&vhost).await?;
    let leases = vars([
        ("USHER__DELIVERY__CLAIM_LEASE_SECONDS", "60".to_owned()),
        ("USHER__DELIVERY__TRANSMIT_LEASE_SECONDS", "120".to_owned()),
    ]);
    let mut system = System::start(Options {
        smtp_port: Some(sink.port()),
        identity: leases,
        database_url: Some(database),
        amqp_url: Some(vhost),
        ..Options::default()
    })
    .await?;
    let settings = Tenant {
        reminder_ladder: vec![prost_types::Duration {
            seconds: plan::REMINDED_AFTER,
            nanos: 0,
        }],
        ..Tenant::default()
    };
    let tenant = system.tenant(settings).await?;
    let clients = system.clients()?;
    let follower = Witness::of_stream(&clients, &tenant);

    let progress = Progress::default();
    let (calls, ()) = tokio::try_join!(
        inviting::invite(&clients, &tenant, &plan, &progress),
        killing::kill(&mut system, broker, &plan, &sink, &progress),
    )?;
    let stormed = began.elapsed();
    settling::settle(&mut system).await?;

    let verdict = verdict::of(&system, &tenant, &plan, &sink, &listener, &follower).await?;
    tell(&format!(
        "storm: seed {}, {} kills, {} broker restarts, {calls}; {verdict}; stormed for {:.0} s, settled after {:.0} s",
        plan.seed,
        plan.kills.len(),
        plan::BROKER_RESTARTS.len(),
        stormed.as_secs_f64(),
        began.elapsed().as_secs_f64(),
    ));
    Ok(())
}
