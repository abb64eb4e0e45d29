//! Draws what was seen of the fleet.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Row, Sparkline, Table};

use super::Watched;
use crate::ctl::fleet_history::{FleetHistory, OwnerChange};
use crate::ctl::table::TextTable;

/// The rows of the chart of events, its frame included.
const CHART: u16 = 5;
/// The most rows of the table of workers, its frame included.
const WORKERS: u16 = 12;
/// The columns of the list of changes.
const CHANGES: u16 = 60;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, watched: &Watched) {
    let history = &watched.history;
    let workers = history.view.as_ref().map(|view| view.workers_table());
    let height = workers.as_ref().map_or(3, |table| u16::try_from(table.rows().len()).unwrap_or(WORKERS) + 2);
    let parts = [
        Constraint::Length(1),
        Constraint::Length(CHART),
        Constraint::Length(height.min(WORKERS)),
        Constraint::Fill(1),
        Constraint::Length(1),
    ];
    let [title, chart, workers_at, rest, help] = Layout::vertical(parts).areas(frame.area());
    let [partitions, changes] = Layout::horizontal([Constraint::Fill(1), Constraint::Length(CHANGES)]).areas(rest);
    frame.render_widget(Paragraph::new(summary(history)), title);
    draw_events(frame, chart, history);
    if let (Some(view), Some(workers)) = (&history.view, &workers) {
        draw_table(frame, workers_at, "workers", workers, 0);
        draw_table(frame, partitions, "partitions", &view.partitions_table(), watched.first_row);
    }
    draw_changes(frame, changes, history);
    frame.render_widget(Paragraph::new("q ends it, arrows and page keys move the partitions"), help);
}

fn summary(history: &FleetHistory) -> Line<'static> {
    let style = Style::default().add_modifier(Modifier::BOLD);
    if let Some(failure) = &history.failure {
        return Line::styled(failure.clone(), style.fg(Color::Red));
    }
    let Some(view) = &history.view else { return Line::styled("looking at the fleet", style) };
    let (owned, all) = view.owned();
    Line::styled(view.summary(), if owned == all { style } else { style.fg(Color::Yellow) })
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, history: &FleetHistory) {
    let most = history.events.iter().max().copied().unwrap_or(0);
    let block = Block::bordered().title(format!("events/s, at most {most}"));
    // The newest are at the right.
    let fitting = usize::from(area.width.saturating_sub(2));
    let skipped = history.events.len().saturating_sub(fitting);
    let events: Vec<u64> = history.events.iter().skip(skipped).copied().collect();
    frame.render_widget(Sparkline::default().block(block).data(&events), area);
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, title: &str, table: &TextTable, first: usize) {
    let widths: Vec<Constraint> =
        table.widths().into_iter().map(|width| Constraint::Length(u16::try_from(width).unwrap_or(u16::MAX))).collect();
    let mut rows = table.rows().iter();
    let head = Row::new(rows.next().cloned().unwrap_or_default()).style(Style::default().add_modifier(Modifier::BOLD));
    let rows = rows.skip(first).map(|row| Row::new(row.clone()).style(style_of(row)));
    let block = Block::bordered().title(title.to_owned());
    frame.render_widget(Table::new(rows, widths).header(head).column_spacing(2).block(block), area);
}

/// What is not as it should be stands out.
fn style_of(row: &[String]) -> Style {
    let says = |words: &[&str]| row.iter().any(|cell| words.contains(&cell.as_str()));
    match () {
        () if says(&["silent", "unknown", "released"]) => Style::default().fg(Color::Red),
        () if says(&["suspended", "moving", "drained"]) => Style::default().fg(Color::Yellow),
        () => Style::default(),
    }
}

fn draw_changes(frame: &mut Frame<'_>, area: Rect, history: &FleetHistory) {
    let line = |change: &OwnerChange| {
        let OwnerChange { partition, from, to, epoch, is_gone, .. } = change;
        let left = if *is_gone { " (gone)" } else { "" };
        let text = format!("{partition}: {from}{left} → {to}, epoch {epoch}");
        Line::styled(text, if *is_gone { Style::default().fg(Color::Red) } else { Style::default() })
    };
    let lines: Vec<Line<'_>> = history.changes.iter().take(usize::from(area.height)).map(line).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title("changes of owners")), area);
}
