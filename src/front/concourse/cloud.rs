//! Logins to cloud registries with a protocol of their own: ECR and ACR, with the keys of a `source`.
//!
//! Keys that are not in the pipeline are read as the providers' own tools do: from variables, and from the role of the
//! worker's container or machine.

use super::fields::Fields;
use crate::front::credentials::cloud;
use crate::front::env::Env;
use crate::front::failure::Failure;
use crate::front::text;
use crate::model::Repository;
use crate::registry::{AwsKeys, AwsLogin, AzureLogin, CloudLogin, CredentialSource, Secret};

/// The values of `azure_environment`; the registry's host name decides which one is used.
const AZURE_ENVIRONMENTS: [&str; 3] = ["AzurePublic", "AzureGovernment", "AzureChina"];

/// The keys of the account that logs in to ECR; a put may have them in its `params`.
pub(super) const AWS_KEYS: [&str; 8] = [
    "aws_region",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_role_arn",
    "aws_role_arns",
    "aws_account_id",
    "aws_ecr_registry_id",
];

/// Login with a cloud's own protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cloud {
    /// Amazon's container registry.
    Aws {
        /// `aws_region`.
        region: String,
        /// `aws_access_key_id` and `aws_secret_access_key`.
        keys: Option<(String, Secret)>,
        /// `aws_session_token`.
        session_token: Option<Secret>,
        /// Roles to assume, one after the other.
        roles: Vec<String>,
        /// Account of the registry.
        account: Option<String>,
    },
    /// Azure's container registry.
    Azure {
        /// `azure_client_id`.
        client_id: Option<String>,
        /// `azure_tenant_id`.
        tenant_id: Option<String>,
    },
}

impl Cloud {
    /// Reads the keys of all clouds.
    pub(super) fn parse(fields: &mut Fields) -> Result<Option<Self>, Failure> {
        let aws = aws(fields)?;
        let azure = azure(fields)?;
        match (aws, azure) {
            (Some(_), Some(_)) => {
                Err(Failure::misuse("`source.aws_region` and `source.azure_acr` exclude each other"))
            }
            (aws, azure) => Ok(aws.or(azure)),
        }
    }

    /// Returns the full name of a repository that may lack its registry.
    pub(super) fn repository(&self, written: &str) -> Result<String, Failure> {
        match self {
            Self::Aws { region, account, .. } if !written.contains(".amazonaws.com/") && !written.contains(".amazonaws.com.cn/") => match account {
                Some(account) => {
                    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
                    Ok(format!("{account}.dkr.ecr.{region}.{domain}/{written}"))
                }
                None if written.starts_with("public.ecr.aws/") => Ok(written.to_owned()),
                None => Err(Failure::misuse(format!("`source.repository`: `{written}` has no registry"))
                    .hint("set `source.aws_account_id`, or write `<account>.dkr.ecr.<region>.amazonaws.com/<name>`")),
            },
            _ => Ok(written.to_owned()),
        }
    }

    /// Makes the login, which sends requests only before the first one to the registry.
    pub(super) fn credentials(
        &self,
        repository: &Repository,
        env: &Env,
    ) -> Result<CredentialSource, Failure> {
        let login = match self {
            Self::Aws { region, keys, session_token, roles, .. } => {
                let login = aws_login(keys.as_ref(), session_token.as_ref(), roles, env)?;
                CloudLogin::Aws(Box::new(AwsLogin { region: Some(region.clone()), ..login }))
            }
            Self::Azure { client_id, tenant_id } => {
                let found = cloud::azure(env);
                CloudLogin::Azure(Box::new(AzureLogin {
                    client_id: client_id.clone().or(found.client_id.clone()),
                    tenant_id: tenant_id.clone().or(found.tenant_id.clone()),
                    registries: vec![repository.registry().to_string()],
                    required: true,
                    ..found
                }))
            }
        };
        Ok(cloud::cloud(vec![login]))
    }
}

/// Makes the login with the keys of a pipeline, else with the worker's keys.
fn aws_login(
    keys: Option<&(String, Secret)>,
    session_token: Option<&Secret>,
    roles: &[String],
    env: &Env,
) -> Result<AwsLogin, Failure> {
    let found = match keys {
        // With keys in the pipeline, an incomplete pair in the environment does not matter.
        Some(_) => cloud::aws(env).unwrap_or_default(),
        None => cloud::aws(env)?,
    };
    let keys = keys.map(|(access_key_id, secret_access_key)| AwsKeys {
        access_key_id: access_key_id.clone(),
        secret_access_key: secret_access_key.clone(),
        session_token: session_token.cloned(),
    });
    Ok(AwsLogin { keys: keys.or(found.keys.clone()), roles: roles.to_vec(), required: true, ..found })
}

/// Reads the keys of a bucket; the region may be left out.
pub(super) fn of_bucket(fields: &mut Fields) -> Result<Cloud, Failure> {
    aws_keys(fields)
}

/// Makes the login to a bucket.
pub(super) fn bucket_login(of_source: &Cloud, env: &Env) -> Result<AwsLogin, Failure> {
    let Cloud::Aws { region, keys, session_token, roles, .. } = of_source else {
        return Ok(cloud::aws(env)?);
    };
    let login = aws_login(keys.as_ref(), session_token.as_ref(), roles, env)?;
    let region = Some(region.clone()).filter(|region| !region.is_empty()).or(login.region.clone());
    Ok(AwsLogin { region, ..login })
}

fn aws(fields: &mut Fields) -> Result<Option<Cloud>, Failure> {
    let cloud = aws_keys(fields)?;
    let has_region = matches!(&cloud, Cloud::Aws { region, .. } if !region.is_empty());
    Ok(has_region.then_some(cloud))
}

/// Reads the keys of AWS; without a region it is empty.
fn aws_keys(fields: &mut Fields) -> Result<Cloud, Failure> {
    let region = fields.text("aws_region")?;
    let (key, secret) = (fields.text("aws_access_key_id")?, fields.text("aws_secret_access_key")?);
    let session_token = fields.text("aws_session_token")?.map(Secret::new);
    let role = fields.text("aws_role_arn")?;
    let mut roles = fields.texts("aws_role_arns")?;
    let account = fields.scalar("aws_account_id")?;
    let old_account = fields.scalar("aws_ecr_registry_id")?;
    if role.is_some() && !roles.is_empty() {
        return Err(Failure::misuse("`source.aws_role_arn` and `source.aws_role_arns` exclude each other"));
    }
    roles.extend(role);
    let keys = match (key, secret) {
        (Some(key), Some(secret)) => Some((key, Secret::new(secret))),
        (None, None) => None,
        _ => {
            return Err(Failure::misuse(
                "`source.aws_access_key_id` and `source.aws_secret_access_key` belong together",
            ));
        }
    };
    let region = region.unwrap_or_default();
    Ok(Cloud::Aws { region, keys, session_token, roles, account: account.or(old_account) })
}

fn azure(fields: &mut Fields) -> Result<Option<Cloud>, Failure> {
    let wanted = fields.switch("azure_acr")?;
    let (client_id, tenant_id) = (fields.text("azure_client_id")?, fields.text("azure_tenant_id")?);
    let environment = fields.text("azure_environment")?;
    if let Some(other) = environment.filter(|text| !AZURE_ENVIRONMENTS.contains(&text.as_str())) {
        let known = text::quoted_list(AZURE_ENVIRONMENTS);
        return Err(fields.invalid("azure_environment", format!("`{other}` is none of {known}")));
    }
    let cloud = Cloud::Azure { client_id, tenant_id };
    Ok(wanted.then_some(cloud))
}

#[cfg(test)]
mod tests {
    use super::super::source::tests::parse;
    use super::*;

    #[test]
    fn keys_of_clouds_are_read_and_their_contradictions_refused() {
        let aws = parse(
            r#"{"repository":"app","aws_region":"eu-central-1","aws_account_id":123456789012,"aws_role_arns":["a","b"]}"#,
        )
        .unwrap();
        assert_eq!(aws.repository.to_string(), "123456789012.dkr.ecr.eu-central-1.amazonaws.com/app");
        assert!(aws.cloud.is_some());
        let china = r#"{"repository":"app","aws_region":"cn-north-1","aws_account_id":"1"}"#;
        assert_eq!(parse(china).unwrap().repository.to_string(), "1.dkr.ecr.cn-north-1.amazonaws.com.cn/app");
        let azure = parse(r#"{"repository":"x.azurecr.io/app","azure_acr":true}"#).unwrap();
        assert!(matches!(azure.cloud, Some(Cloud::Azure { .. })));
        assert_eq!(parse(r#"{"repository":"a","aws_account_id":"1"}"#).unwrap().cloud, None);
        for (keys, expected) in [
            (r#""aws_role_arn":"a","aws_role_arns":["b"]"#, "exclude each other"),
            (r#""aws_access_key_id":"a""#, "belong together"),
            (r#""aws_region":"a","azure_acr":true"#, "exclude each other"),
            (r#""aws_region":"a""#, "`source.repository`: `a` has no registry"),
            (r#""azure_environment":"Azure""#, "`source.azure_environment`: `Azure` is none of"),
        ] {
            let failure = parse(&format!(r#"{{"repository":"a",{keys}}}"#)).unwrap_err();
            assert!(failure.message.to_string().contains(expected), "{failure:?}");
        }
    }
}
