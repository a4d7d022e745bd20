//! From the module that the linker left to what a browser downloads: bindings generated, exports that only C needed removed,
//! optimized, and checked to be something that the oldest supported browsers can load.
//!
//! The result stands in `js/pkg`: `rtc_battery.js` (an ES module for the bundler), `rtc_battery.d.ts`, `rtc_battery.wasm`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use wasm_bindgen_cli_support::Bindgen;
use wasmparser::{CompositeInnerType, ExternalKind, Parser, Payload, TypeRef, ValType, Validator, WasmFeatures};

use crate::project::Project;

/// Exports that C code inside the module needed from the linker. Some take 64-bit integers, which Chrome 80 and Safari 14.0
/// cannot pass, and all of them keep dead code alive.
const C_EXPORTS: [&str; 2] = ["rust_sqlite_wasm", "sqlite3_os_"];

/// Generates `js/pkg` from the linked module, unless it is already what this module makes.
pub(crate) fn generate(project: &Project, linked: &Path) -> Result<()> {
    let pkg = project.path("js/pkg");
    let stamp_file = pkg.join(".stamp");
    let stamp = stamp(project, linked)?;
    if fs::read_to_string(&stamp_file).is_ok_and(|found| found == stamp) {
        return Ok(());
    }
    if pkg.exists() {
        fs::remove_dir_all(&pkg)?;
    }
    let mut output = Bindgen::new()
        .input_path(linked)
        .out_name("rtc_battery")
        .web(true)?
        .typescript(true)
        .remove_name_section(true)
        .remove_producers_section(true)
        .generate_output()
        .context("wasm-bindgen")?;
    let exports = &mut output.wasm_mut().exports;
    let unwanted: Vec<_> = exports
        .iter()
        .filter(|export| C_EXPORTS.iter().any(|prefix| export.name.starts_with(prefix)))
        .map(|export| export.id())
        .collect();
    for id in unwanted {
        exports.delete(id);
    }
    output.emit(&pkg)?;

    let module = pkg.join("rtc_battery.wasm");
    optimize(project, &pkg.join("rtc_battery_bg.wasm"), &module)?;
    check(&fs::read(&module)?).with_context(|| format!("{} does not load in Chrome 80", module.display()))?;
    for intermediate in ["rtc_battery_bg.wasm", "rtc_battery_bg.wasm.d.ts"] {
        fs::remove_file(pkg.join(intermediate))?;
    }
    fs::write(stamp_file, stamp)?;
    Ok(())
}

/// Names everything that the result depends on: the module, the versions of the tools, and this file.
fn stamp(project: &Project, linked: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    for input in [linked, &project.path("js/package-lock.json")] {
        hash.update(fs::read(input).with_context(|| format!("cannot read {}", input.display()))?);
    }
    hash.update(include_str!("bindings.rs"));
    Ok(format!("{:x}", hash.finalize()))
}

fn optimize(project: &Project, from: &PathBuf, to: &PathBuf) -> Result<()> {
    let cmd = project.npm_bin("wasm-opt").args(["-O3", "--mvp-features", "--enable-mutable-globals"]);
    Ok(cmd.arg(from).arg("-o").arg(to).quiet().run()?)
}

/// The module must be first-version WebAssembly with mutable globals, and no 64-bit integer may cross its border.
fn check(module: &[u8]) -> Result<()> {
    Validator::new_with_features(WasmFeatures::WASM1)
        .validate_all(module)
        .context("it uses WebAssembly that came later than the first version")?;

    let mut types = Vec::new();
    let mut functions = Vec::new();
    let mut border = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::TypeSection(section) => {
                for group in section {
                    types.extend(group?.into_types().map(|ty| ty.composite_type.inner));
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    if let TypeRef::Func(ty) = import.ty {
                        functions.push(ty);
                        border.push((import.name.to_owned(), ty));
                    }
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    functions.push(ty?);
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    if export.kind == ExternalKind::Func {
                        let ty = functions.get(export.index as usize).context("an export without a function")?;
                        border.push((export.name.to_owned(), *ty));
                    }
                }
            }
            _ => {}
        }
    }
    for (name, ty) in border {
        let Some(CompositeInnerType::Func(signature)) = types.get(ty as usize) else {
            bail!("`{name}` has no function type");
        };
        let wide = signature.params().iter().chain(signature.results()).any(|ty| *ty == ValType::I64);
        ensure!(
            !wide,
            "`{name}` passes a 64-bit integer between WebAssembly and JavaScript (see it in js/pkg/rtc_battery.js); pass an f64 or bytes"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    /// A module with one exported function: its parameter type and its body in WebAssembly's binary format.
    fn module(parameter: u8, body: &[u8]) -> Vec<u8> {
        let length = body.len() as u8;
        let sections: [&[u8]; 5] = [
            &[0x01, 0x05, 0x01, 0x60, 0x01, parameter, 0x00],
            &[0x03, 0x02, 0x01, 0x00],
            &[0x07, 0x05, 0x01, 0x01, b'f', 0x00, 0x00],
            &[0x0a, length + 4, 0x01, length + 2, 0x00],
            &[body, &[0x0b]].concat(),
        ];
        [b"\0asm\x01\0\0\0", sections.concat().as_slice()].concat()
    }

    const I32: u8 = 0x7f;
    const I64: u8 = 0x7e;

    #[test]
    fn a_module_of_the_first_version_passes() {
        check(&module(I32, &[])).unwrap();
    }

    #[test]
    fn a_64_bit_integer_at_the_border_does_not() {
        assert!(check(&module(I64, &[])).unwrap_err().to_string().contains("`f` passes a 64-bit integer"));
    }

    #[test]
    fn later_instructions_do_not() {
        let sign_extension = [0x41, 0x00, 0xc0, 0x1a];
        assert!(check(&module(I32, &sign_extension)).unwrap_err().to_string().contains("later than the first version"));
    }
}
