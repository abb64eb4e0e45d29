//! Runs the chosen cases.

use std::time::Duration;

use crate::masscut::MassCutSpans;
use crate::progress::BenchProgress;
use crate::report::{Idle, Report, Talk};
use crate::server::{BenchServer, ServerShape};
use crate::talk::Spans;
use crate::{BenchArgs, BenchError, CaseName, deadnode, idle, limit, live_rooms, masscut, signin, talk, writes};

const WARM: Duration = Duration::from_secs(2);

/// Runs the cases in `args` and prints the results.
///
/// # Errors
/// [`BenchError::Deliveries`] if a member did not receive every event once and in order or its connection failed, and
/// other errors if the measurement itself failed.
pub async fn run(args: BenchArgs) -> Result<(), BenchError> {
    if let Some(port) = args.serve_limit {
        return limit::serve(port).await;
    }
    // On a thread and a runtime of its own. Connections on one thread never wait for each other's locks, and they leave
    // the rest of the machine to the server.
    let (done, outcome) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("load".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let result = runtime.map_err(BenchError::from).and_then(|runtime| runtime.block_on(measure(&args)));
        // The caller may be gone.
        let _ = done.send(result);
    })?;
    outcome.await.map_err(|_| BenchError::protocol("the load generator ended"))?
}

async fn measure(args: &BenchArgs) -> Result<(), BenchError> {
    let mut report = Report::default();
    let mut wrong = 0;
    for case in &args.cases {
        match case.shape() {
            Some(_) => {
                let mut runs = Vec::new();
                for run in 1..=args.runs {
                    runs.push(run_talk(args, *case, run).await?);
                }
                wrong += runs.iter().map(|talk| talk.sendpi.wrong()).sum::<u64>();
                report.talk.extend(Talk::median(runs));
            }
            None => run_once(args, *case, &mut report).await?,
        }
    }
    wrong += report.masscut.as_ref().map_or(0, |outcome| outcome.wrong);
    wrong += report.deadnode.as_ref().map_or(0, |outcome| outcome.wrong + outcome.unanswered);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report).map_err(|e| BenchError::protocol(e.to_string()))?);
    } else {
        print!("{}", report.table());
    }
    if wrong > 0 {
        return Err(BenchError::Deliveries(format!("{wrong} events were left out, repeated or missing")));
    }
    Ok(())
}

/// Measures Sendpi and the limit, one right after the other. Both are freshly started, unless `args` gives an address.
async fn run_talk(args: &BenchArgs, case: CaseName, run: u16) -> Result<Talk, BenchError> {
    let Some(shape) = case.shape() else {
        return Err(BenchError::protocol("a case without load"));
    };
    let spans = Spans { warm: WARM, counted: Duration::from_secs(args.seconds) };
    let title = |who: &str| format!("{case} {run}/{} {who}: ", args.runs);
    let server = BenchServer::sendpi(args, ServerShape::default()).await?;
    let sendpi = talk::run(&server, shape, spans, &BenchProgress::new(title("Sendpi"))).await?;
    server.stop().await;
    let mut limit = None;
    if !args.no_limit {
        let server = BenchServer::limit().await?;
        limit = Some(talk::run(&server, shape, spans, &BenchProgress::new(title("limit"))).await?);
        server.stop().await;
    }
    Ok(Talk::new(case, sendpi, limit))
}

async fn run_once(args: &BenchArgs, case: CaseName, report: &mut Report) -> Result<(), BenchError> {
    if args.url.is_some() && matches!(case, CaseName::Idle | CaseName::Deadnode) {
        eprintln!("{case} is skipped: it needs a server that is started for it");
        return Ok(());
    }
    if args.cql.is_empty() && matches!(case, CaseName::Writes) {
        eprintln!("{case} is skipped: it needs --cql");
        return Ok(());
    }
    let progress = BenchProgress::new(format!("{case}: "));
    match case {
        CaseName::Signin => {
            let server = BenchServer::sendpi(args, ServerShape::default()).await?;
            report.signin = signin::run(&server, args, &progress).await?;
            server.stop().await;
        }
        CaseName::Writes => {
            let server = BenchServer::sendpi(args, live_rooms::SERVER).await?;
            report.writes = writes::run(&server, &progress).await?;
            server.stop().await;
        }
        CaseName::Masscut => {
            let server = BenchServer::sendpi(args, ServerShape::default()).await?;
            let spans = MassCutSpans::default();
            report.masscut = Some(masscut::run(&server, masscut::BUSY, spans, &progress).await?);
            server.stop().await;
        }
        CaseName::Deadnode => {
            let mut server = BenchServer::sendpi(args, deadnode::SERVER).await?;
            report.deadnode = Some(deadnode::run(&mut server, &progress).await?);
            server.stop().await;
        }
        _ => run_idle(args, &progress, report).await?,
    }
    Ok(())
}

async fn run_idle(args: &BenchArgs, progress: &BenchProgress, report: &mut Report) -> Result<(), BenchError> {
    let server = BenchServer::sendpi(args, ServerShape::default()).await?;
    let points = idle::run(&server, &args.idle, progress).await?;
    server.stop().await;
    report.idle.extend(points.into_iter().map(|point| Idle { who: "Sendpi", point }));
    if !args.no_limit {
        let server = BenchServer::limit().await?;
        let points = idle::run(&server, &args.idle, progress).await?;
        server.stop().await;
        report.idle.extend(points.into_iter().map(|point| Idle { who: "limit", point }));
    }
    if args.idle_rooms > 0 {
        let server = BenchServer::sendpi(args, live_rooms::SERVER).await?;
        report.live_rooms = Some(live_rooms::run(&server, usize::from(args.idle_rooms), progress).await?);
        server.stop().await;
    }
    Ok(())
}
