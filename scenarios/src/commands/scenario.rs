//! `trial scenario`.

use super::{INVALID_FILE, NOTHING_SELECTED, color};
use crate::cli::{Common, Format, ScenarioCommand};
use crate::file;
use std::io::Write;
use std::process::ExitCode;

pub(super) fn scenario(command: &ScenarioCommand, common: &Common) -> ExitCode {
    match command {
        ScenarioCommand::List => list(common),
        ScenarioCommand::Show { name } => match file::find(name) {
            Some(loaded) => {
                out!("{}", loaded.text);
                ExitCode::SUCCESS
            }
            None => {
                let hint = file::nearest_name(name).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                eprintln!("trial: the catalog has no scenario `{name}`{hint}");
                ExitCode::from(NOTHING_SELECTED)
            }
        },
        ScenarioCommand::New { name } => {
            out!("{}", file::new_template(name));
            ExitCode::SUCCESS
        }
        ScenarioCommand::Check { files } => {
            let mut code = ExitCode::SUCCESS;
            for path in files {
                match file::check(path) {
                    Ok(loaded) => {
                        if !common.quiet {
                            outln!("{}: ok, scenario {}", path.display(), loaded.scenario.name);
                        }
                    }
                    Err(errors) => {
                        eprint!("{}", errors.render(color(common)));
                        code = ExitCode::from(INVALID_FILE);
                    }
                }
            }
            code
        }
        ScenarioCommand::Schema => {
            outln!("{:#}", file::schema());
            ExitCode::SUCCESS
        }
    }
}

fn list(common: &Common) -> ExitCode {
    let entries = file::list_catalog();
    if common.format == Format::Json {
        outln!("{:#}", serde_json::to_value(&entries).unwrap_or_default());
        return ExitCode::SUCCESS;
    }
    let width = entries.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
    for entry in entries {
        let tags = if entry.tags.is_empty() { String::new() } else { format!("  [{}]", entry.tags.join(", ")) };
        outln!("{:<width$}  {}{tags}", entry.name, entry.question);
    }
    ExitCode::SUCCESS
}
