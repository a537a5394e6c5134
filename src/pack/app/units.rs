//! Which files belong together: packages of the ecosystems that vendor them, and an app's own folders.
//!
//! Only paths are looked at. A unit changes as a whole when its package is upgraded; a scope is a set of packages that
//! are often upgraded together (an npm scope, a Go host and owner, a family of jars).

/// What kind of unit a file is part of; they are never in one layer together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Packages of other authors.
    Dependency,
    /// The app itself.
    Own,
    /// Lock files and the like, which change whenever any package does.
    Lock,
}

/// Where a file belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit<'a> {
    pub(super) class: Class,
    /// Packages that are often upgraded together.
    pub(super) scope: &'a [u8],
    /// Files that are upgraded as one.
    pub(super) name: &'a [u8],
}

/// Files that change with every upgrade of anything, by name, wherever they are.
const LOCK_FILES: [&str; 22] = [
    ".package-lock.json",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "package.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    ".yarn-integrity",
    ".modules.yaml",
    "go.mod",
    "go.sum",
    "modules.txt",
    "Gemfile",
    "Gemfile.lock",
    "requirements.txt",
    "Pipfile",
    "Pipfile.lock",
    "poetry.lock",
    "pyproject.toml",
    "composer.json",
    "composer.lock",
    "pom.xml",
    "classpath.idx",
];

/// Hosts whose first folder is an owner and the second a repository.
const FORGES: [&[u8]; 4] = [b"github.com", b"gitlab.com", b"bitbucket.org", b"codeberg.org"];

/// Finds the unit of a path.
pub(super) fn unit_of(path: &[u8]) -> Unit<'_> {
    let dependency = package(path).map(|(scope, name)| Unit { class: Class::Dependency, scope, name });
    // Inside a package its own manifest belongs to it; beside packages it is a list of them.
    dependency.unwrap_or_else(|| {
        let file = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        if LOCK_FILES.iter().any(|lock| lock.as_bytes() == file) {
            return Unit { class: Class::Lock, scope: b"", name: b"" };
        }
        let top =
            path.iter().position(|byte| *byte == b'/').and_then(|at| path.get(..at)).unwrap_or_default();
        Unit { class: Class::Own, scope: top, name: top }
    })
}

/// Returns scope and unit of a path inside a package of another author, as beginnings of the path.
fn package(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut start = 0;
    for component in path.split(|byte| *byte == b'/') {
        let after = start + component.len() + 1;
        // A folder of packages without a package is no scope.
        let inside = path.get(after..).filter(|rest| !rest.is_empty());
        let found = match (component, inside) {
            (b"node_modules", Some(rest)) => npm(rest),
            (b"vendor", Some(rest)) => vendored(rest),
            (b"site-packages" | b"dist-packages", Some(rest)) => python(rest),
            (b"gems", Some(rest)) => gem(rest),
            (file, None) if is_jar(file) => {
                let family = file.iter().position(|byte| *byte == b'-').unwrap_or(file.len());
                let name = without_version(file);
                return Some((path.get(..start + family)?, path.get(..start + name)?));
            }
            _ => None,
        };
        if let Some((scope, name)) = found {
            return Some((path.get(..after + scope)?, path.get(..after + name)?));
        }
        start = after;
    }
    None
}

/// Returns how long the first `count` components are together.
fn first(rest: &[u8], count: usize) -> Option<usize> {
    let mut ends = rest.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    match ends.nth(count.checked_sub(1)?) {
        Some(end) => Some(end),
        None => {
            let components = rest.iter().filter(|byte| **byte == b'/').count() + 1;
            (components == count).then_some(rest.len())
        }
    }
}

fn npm(rest: &[u8]) -> Option<(usize, usize)> {
    let name = first(rest, 1)?;
    // A plain file here is npm's or yarn's own record.
    if name == rest.len() {
        return None;
    }
    if !rest.starts_with(b"@") {
        return Some((name, name));
    }
    first(rest, 2).map(|package| (name, package))
}

/// Go modules, or composer's packages, which are owner and name.
fn vendored(rest: &[u8]) -> Option<(usize, usize)> {
    let host = rest.get(..first(rest, 1)?)?;
    // Bundler keeps its gems here too.
    if host == b"bundle" {
        return None;
    }
    let (scope, name) = if FORGES.contains(&host) || host == b"golang.org" { (2, 3) } else { (1, 2) };
    let name = first(rest, name).filter(|end| *end < rest.len())?;
    Some((first(rest, scope)?, name))
}

fn python(rest: &[u8]) -> Option<(usize, usize)> {
    let name = rest.get(..first(rest, 1)?)?;
    let end = without_version(name);
    // `requests` and `requests-2.31.0.dist-info`; `six.py` alone.
    Some((end, end))
}

fn gem(rest: &[u8]) -> Option<(usize, usize)> {
    let end = first(rest, 1).filter(|end| *end < rest.len())?;
    let end = without_version(rest.get(..end)?);
    Some((end, end))
}

fn is_jar(file: &[u8]) -> bool {
    file.ends_with(b".jar") || file.ends_with(b".war")
}

/// Returns the length of a name up to its version: `log4j-1.2-api-2.20.0.jar` up to `log4j-1.2-api`.
fn without_version(name: &[u8]) -> usize {
    let stem = name.len()
        - [&b".jar"[..], b".war", b".dist-info", b".egg-info", b".py"]
            .iter()
            .find(|ending| name.ends_with(ending))
            .map_or(0, |ending| ending.len());
    let mut end = stem;
    let mut cut = false;
    while let Some(dash) = name.get(..end).and_then(|name| name.iter().rposition(|byte| *byte == b'-')) {
        let part = name.get(dash + 1..end).unwrap_or_default();
        let is_number = part.first().is_some_and(u8::is_ascii_digit);
        // After the version only a qualifier: `-jre`, `-SNAPSHOT`.
        let before = name.get(..dash).unwrap_or_default();
        let version_before = before
            .iter()
            .rposition(|byte| *byte == b'-')
            .and_then(|at| before.get(at + 1))
            .is_some_and(u8::is_ascii_digit);
        if dash == 0 || !(is_number || (!cut && version_before)) {
            break;
        }
        cut = cut || is_number;
        end = dash;
    }
    if cut { end } else { stem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_found_in_every_ecosystem() {
        for (path, scope, name) in [
            ("node_modules/lodash/fp/x.js", "node_modules/lodash", "node_modules/lodash"),
            ("node_modules/@angular/core/a.js", "node_modules/@angular", "node_modules/@angular/core"),
            ("node_modules/a/node_modules/b/c.js", "node_modules/a", "node_modules/a"),
            ("node_modules/.bin/tsc", "node_modules/.bin", "node_modules/.bin"),
            ("web/node_modules/a/package.json", "web/node_modules/a", "web/node_modules/a"),
            (
                "vendor/github.com/spf13/cobra/a.go",
                "vendor/github.com/spf13",
                "vendor/github.com/spf13/cobra",
            ),
            ("vendor/golang.org/x/net/http2/a.go", "vendor/golang.org/x", "vendor/golang.org/x/net"),
            ("vendor/k8s.io/api/core/v1/a.go", "vendor/k8s.io", "vendor/k8s.io/api"),
            ("vendor/gopkg.in/yaml.v3/a.go", "vendor/gopkg.in", "vendor/gopkg.in/yaml.v3"),
            ("vendor/symfony/console/A.php", "vendor/symfony", "vendor/symfony/console"),
            ("BOOT-INF/lib/spring-core-6.1.2.jar", "BOOT-INF/lib/spring", "BOOT-INF/lib/spring-core"),
            ("lib/log4j-1.2-api-2.20.0.jar", "lib/log4j", "lib/log4j-1.2-api"),
            ("lib/guava-32.1.2-jre.jar", "lib/guava", "lib/guava"),
            ("lib/a-1.0-SNAPSHOT.jar", "lib/a", "lib/a"),
            ("lib/plain.jar", "lib/plain.jar", "lib/plain"),
            ("v/site-packages/requests/api.py", "v/site-packages/requests", "v/site-packages/requests"),
            (
                "site-packages/requests-2.31.0.dist-info/RECORD",
                "site-packages/requests",
                "site-packages/requests",
            ),
            ("site-packages/six.py", "site-packages/six", "site-packages/six"),
            (
                "vendor/bundle/ruby/3.2.0/gems/rack-3.0.8/a.rb",
                "vendor/bundle/ruby/3.2.0/gems/rack",
                "vendor/bundle/ruby/3.2.0/gems/rack",
            ),
        ] {
            let unit = unit_of(path.as_bytes());
            assert_eq!(unit.class, Class::Dependency, "{path}");
            let shown = |bytes| String::from_utf8_lossy(bytes).into_owned();
            assert_eq!((shown(unit.scope), shown(unit.name)), (scope.into(), name.into()), "{path}");
        }
    }

    #[test]
    fn what_is_no_package_is_the_apps_own_or_a_lock_file() {
        for (path, class, scope) in [
            ("src/main.js", Class::Own, "src"),
            ("index.js", Class::Own, ""),
            ("vendor/README", Class::Own, "vendor"),
            ("vendor/x", Class::Own, "vendor"),
            ("node_modules", Class::Own, ""),
            ("package.json", Class::Lock, ""),
            ("sub/package.json", Class::Lock, ""),
            ("node_modules/.package-lock.json", Class::Lock, ""),
            ("vendor/modules.txt", Class::Lock, ""),
            ("go.sum", Class::Lock, ""),
        ] {
            let unit = unit_of(path.as_bytes());
            assert_eq!((unit.class, unit.scope), (class, scope.as_bytes()), "{path}");
        }
    }
}
