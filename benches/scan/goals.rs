//! Tables and goals, as they are printed.

use super::child::Cost;

/// What was held against what.
#[derive(Debug, Default)]
pub struct Goals(Vec<String>);

impl Goals {
    /// A figure that should be no more than its bound.
    pub fn at_most(&mut self, name: &str, figure: f64, bound: f64, unit: &str) {
        self.note(name, &format!("{} (<= {})", in_unit(figure, unit), in_unit(bound, unit)), figure <= bound);
    }

    /// A figure that should be no less than its bound.
    pub fn at_least(&mut self, name: &str, figure: f64, bound: f64, unit: &str) {
        self.note(name, &format!("{} (>= {})", in_unit(figure, unit), in_unit(bound, unit)), figure >= bound);
    }

    /// A number that should be exactly this.
    pub fn exactly(&mut self, name: &str, figure: u64, bound: u64) {
        self.note(name, &format!("{figure} (= {bound})"), figure == bound);
    }

    fn note(&mut self, name: &str, figure: &str, is_met: bool) {
        self.0.push(format!("goal {name}: {figure} {}", if is_met { "met" } else { "short" }));
    }

    pub fn print(&self) {
        println!("\n{}", self.0.join("\n"));
    }
}

fn in_unit(figure: f64, unit: &str) -> String {
    format!("{figure:.2}{unit}")
}

/// One program's line in a row's table. What a program does not count is left out.
#[derive(Debug)]
pub struct Line {
    pub name: &'static str,
    pub cost: Cost,
    pub needed: Option<u64>,
    pub made: u64,
    /// Account × regions, to share the processor's time out to.
    pub account_regions: u64,
    pub most_in_flight: u64,
    pub connections: u64,
}

/// Prints the table of one row.
pub fn table(title: &str, lines: &[Line]) {
    println!("\n{title}\n");
    println!(
        "{:<22}{:>9}{:>9}{:>9}{:>9}{:>10}{:>10}{:>11}{:>13}",
        "", "needed", "made", "wall s", "CPU s", "µs each", "peak MB", "in flight", "connections"
    );
    for line in lines {
        let Cost { wall, cpu, peak_megabytes } = line.cost;
        println!(
            "{:<22}{:>9}{:>9}{:>9.2}{:>9.2}{:>10.0}{:>10.1}{:>11}{:>13}",
            line.name,
            line.needed.map_or("–".to_owned(), |needed| needed.to_string()),
            line.made,
            wall.as_secs_f64(),
            cpu,
            cpu / line.account_regions as f64 * 1e6,
            peak_megabytes,
            line.most_in_flight,
            line.connections
        );
    }
}
