"""The fields that Falco's sources are known to have: what a misspelt field is compared with. Data, no logic.

System calls: the filter checks of falcosecurity/libs at 48dfd53 (2026-07-22, after 0.25.4), and the table of fields in
Falco's documentation. Plugins: the tables in falcosecurity/plugins at 0b3cbd8 (2026-08-04), and of Falco's registry of
plugins gitlab (07b568a), keycloak (65b88a9), nomad (d2a50ac), docker (10525eb), nginx (1da58ee), salesforce (e4704c8)
and box (4b1f78f).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# By the first part of their names. `[]`: the field takes an argument, as in `proc.aname[2]` or `evt.arg.flags`.
_BY_PREFIX: Final[Mapping[str, str]] = {
    "anomaly": "count_min_sketch.profile[] count_min_sketch[] falco.duration_ns",
    "box": """
        access_token_id city continent country countryisocode created_by_id created_by_login created_by_name
        ekm_id eventid eventtype ipaddress messagetype pluginerrormessage serviceid servicename shieldalert size
        sourceitemid sourceitemname sourceitemtype timestamp userid userlogin username versionid
    """,
    "container": """
        cni.json duration full_id healthcheck host_ipc host_network host_pid id image image.digest image.id
        image.repository image.tag ip label[] labels liveness_probe mount.dest[] mount.mode[]
        mount.propagation[] mount.rdwr[] mount.source[] mount[] mounts name privileged readiness_probe start_ts
        type
    """,
    "ct": """
        addendum.originaleventid addendum.originalrequestid addendum.reason addendum.updatedfields
        additionaleventdata apiversion edgedevicedetails error errormessage eventcategory eventtype id info
        managementevent name originaluser readonly recipientaccountid region request request.availabilityzone
        request.cluster request.documentname request.functionname request.groupname request.host request.name
        request.policy request.reason request.serialnumber request.servicename request.subnetid request.target
        request.taskdefinition request.username requestid resources response response.reservationid
        response.subnetid serviceeventdetails sessioncredentialfromconsole sharedeventid shortsrc src srcip time
        tlsdetails.ciphersuite tlsdetails.clientprovidedhostheader tlsdetails.tlsversion user user.accountid
        user.arn user.identitytype user.principalid useragent vpcendpointid
    """,
    "docker": """
        action attributes.container attributes.exitcode attributes.image attributes.name attributes.signal
        attributes.type from id node.id node.statenew node.stateold scope stack.namespace status
        swarm.servicename swarm.task swarm.taskid swarm.taskname type
    """,
    "ec2": "imageid imageids[] name",
    "ecr": "imagetag repository",
    "evt": """
        abspath[] arg[] args around[] asynctype buffer buflen buflen.file buflen.file.in buflen.file.out
        buflen.in buflen.net buflen.net.in buflen.net.out buflen.out category count count.error count.error.file
        count.error.memory count.error.net count.error.other count.exit count.procinfo count.threadinfo cpu
        datetime datetime.s deltatime deltatime.ns deltatime.s dir failed hostname info
        infra.docker.container.id infra.docker.container.image infra.docker.container.name infra.docker.name
        io_dir is_async is_io is_io_read is_io_write is_open_create is_open_exec is_open_read is_open_write
        is_syslog is_wait latency latency.human latency.ns latency.quantized latency.s num outputtime plugininfo
        pluginname rawarg[] rawres rawtime rawtime.ns rawtime.s reltime reltime.ns reltime.s res source time
        time.iso8601 time.s type type.is[] wait_latency
    """,
    "fd": """
        cip cip.name cnet connected containerdirectory containername cport cproto dev dev.major dev.minor
        directory filename ino ip is_lower_layer is_server is_upper_layer l4proto lip lip.name lnet lport lproto
        name name_changed nameraw net num port proto rip rip.name rnet rport rproto sip sip.name snet sockfamily
        sport sproto type typechar types[] uid
    """,
    "fdlist": "cips cports names nums sips sports",
    "fs": "path.name path.nameraw path.source path.sourceraw path.target path.targetraw",
    "gcp": """
        authorizationInfo callerIP cloudfunctions.function cloudsql.databaseId compute.instanceId
        compute.networkId compute.subnetwork compute.subnetworkId dns.zone iam.serviceAccount
        iam.serviceAccountId location logging.sink methodName policyDelta projectId request resourceLabels
        resourceName resourceType serviceName storage.bucket time user userAgent
    """,
    "github": """
        action collaborator.name collaborator.role commit.added commit.modified commit.removed
        diff.committed_secrets.desc diff.committed_secrets.files diff.committed_secrets.lines
        diff.committed_secrets.links diff.has_secrets org owner repo repo.description repo.name repo.public
        repo.url type user webhook.id webhook.type workflow.filename workflow.has_miners workflow.miners.type
    """,
    "gitlab": """
        author_class author_email author_id author_name city continent country countryisocode created_at
        custom_message entity_id entity_path entity_type event_id event_type failed_login ip_address
        op_changed_from op_changed_to op_item op_type pluginerrormessage target_details target_id target_type
    """,
    "group": "gid name",
    "iam": "policy role",
    "jevt": "obj rawtime value[]",
    "json": "obj rawtime value[]",
    "k8s": """
        deployment.id deployment.label[] deployment.labels deployment.name ns.id ns.label[] ns.labels ns.name
        pod.cni.json pod.full_sandbox_id pod.id pod.ip pod.label[] pod.labels pod.name pod.sandbox_id pod.uid
        rc.id rc.label[] rc.labels rc.name rs.id rs.label[] rs.labels rs.name svc.id svc.label[] svc.labels
        svc.name
    """,
    "k8smeta": """
        deployment.label[] deployment.labels deployment.name deployment.uid ns.label[] ns.labels ns.name ns.uid
        pod.ip pod.label[] pod.labels pod.name pod.uid rc.label[] rc.labels rc.name rc.uid rs.label[] rs.labels
        rs.name rs.uid svc.label[] svc.labels svc.name svc.uid
    """,
    "ka": """
        auditid auth.decision auth.openshift.decision auth.openshift.username auth.reason cluster.name
        impuser.name req.binding.role req.binding.subject.has_name[] req.binding.subjects
        req.binding.subjects.group_names req.binding.subjects.serviceaccount_names
        req.binding.subjects.serviceaccount_ns_names req.binding.subjects.user_names req.configmap.name
        req.configmap.obj req.container.host_network req.container.image req.container.image.repository
        req.container.privileged req.pod.containers.add_capabilities[]
        req.pod.containers.allow_privilege_escalation[] req.pod.containers.args[] req.pod.containers.command[]
        req.pod.containers.eff_run_as_group[] req.pod.containers.eff_run_as_user[]
        req.pod.containers.host_port[] req.pod.containers.image.repository[] req.pod.containers.image[]
        req.pod.containers.name[] req.pod.containers.privileged[] req.pod.containers.proc_mount[]
        req.pod.containers.read_only_fs[] req.pod.containers.run_as_group[] req.pod.containers.run_as_user[]
        req.pod.ephemeralContainers.add_capabilities[] req.pod.ephemeralContainers.allow_privilege_escalation[]
        req.pod.ephemeralContainers.args[] req.pod.ephemeralContainers.command[]
        req.pod.ephemeralContainers.eff_run_as_group[] req.pod.ephemeralContainers.eff_run_as_user[]
        req.pod.ephemeralContainers.image.repository[] req.pod.ephemeralContainers.image[]
        req.pod.ephemeralContainers.name[] req.pod.ephemeralContainers.privileged[]
        req.pod.ephemeralContainers.proc_mount[] req.pod.ephemeralContainers.read_only_fs[]
        req.pod.ephemeralContainers.run_as_group[] req.pod.ephemeralContainers.run_as_user[] req.pod.fs_group
        req.pod.host_ipc req.pod.host_network req.pod.host_pid req.pod.initContainers.add_capabilities[]
        req.pod.initContainers.allow_privilege_escalation[] req.pod.initContainers.args[]
        req.pod.initContainers.command[] req.pod.initContainers.eff_run_as_group[]
        req.pod.initContainers.eff_run_as_user[] req.pod.initContainers.host_port[]
        req.pod.initContainers.image.repository[] req.pod.initContainers.image[] req.pod.initContainers.name[]
        req.pod.initContainers.privileged[] req.pod.initContainers.proc_mount[]
        req.pod.initContainers.read_only_fs[] req.pod.initContainers.run_as_group[]
        req.pod.initContainers.run_as_user[] req.pod.run_as_group req.pod.run_as_user
        req.pod.supplemental_groups req.pod.volumes.flexvolume_driver[] req.pod.volumes.hostpath[]
        req.pod.volumes.volume_type[] req.role.rules req.role.rules.apiGroups[] req.role.rules.nonResourceURLs[]
        req.role.rules.resources[] req.role.rules.verbs[] req.service.ports[] req.service.type
        req.volume.hostpath[] resp.name response.code response.reason security.pod.violations sourceips[] stage
        target.name target.namespace target.pod.name target.resource target.subresource uri uri.param[]
        user.groups user.name useragent validations.admission.policy.failure verb
    """,
    "keycloak": """
        admin.authDetails.clientID admin.authDetails.ipAddress admin.authDetails.realmID
        admin.authDetails.userID admin.operationType admin.resourcePath admin.resourceType error eventID realmID
        user.clientID user.eventType user.ipAddress user.sessionID user.userID
    """,
    "krsi": """
        cip cport dev dirfd domain fd file_index flags ino iou_ret linkdirfd linkpath mode name newdirfd newpath
        olddirfd oldpath path protocol res sip sport target type
    """,
    "nginx": """
        bytes_sent category headers[] log_path method path pattern_id protocol query_string raw referer
        remote_addr remote_user request_uri status test_id time_local user_agent
    """,
    "nomad": """
        alloc.clientStatus alloc.images alloc.images.repositories alloc.images.tags alloc.jobID alloc.name
        alloc.namespace alloc.res.cores alloc.res.cpu alloc.res.diskMB alloc.res.iops alloc.res.memoryMB
        alloc.res.memoryMaxMB alloc.taskStates.type event.topic event.type index
    """,
    "okta": """
        actor.Type actor.alternateid actor.id actor.name app authentication.credentialprovider
        authentication.provider authentication.sessionid authentication.step behaviors client.device
        client.geo.city client.geo.country client.geo.lat client.geo.lon client.geo.postalcode client.geo.state
        client.id client.ip client.zone evt.legacytype evt.type logonlysecuritydata message mfa.deny.countlast[]
        mfa.failure.countlast[] org principal.alternateid principal.id principal.name principal.type published
        reason requesturi result security.asnumber security.asorg security.domain security.isp security.isproxy
        severity target.app.alternateid target.group.alternateid target.group.id target.group.name
        target.user.alternateid target.user.id target.user.name targets.displayName[] transaction.id
        transaction.type useragent.browser useragent.os useragent.raw
    """,
    "proc": """
        aargs[] acmdline[] aenv[] aexe[] aexepath[] aname[] apid[] args[] cmdlenargs cmdline cmdnargs cwd
        duration env[] exe exe_ino exe_ino.ctime exe_ino.ctime_duration_pidns_start
        exe_ino.ctime_duration_proc_start exe_ino.mtime exeline exepath fdlimit fdopencount fdusage
        is_container_healthcheck is_container_liveness_probe is_container_readiness_probe is_exe_from_memfd
        is_exe_lower_layer is_exe_upper_layer is_exe_writable is_pgid_leader is_sid_leader is_vpgid_leader
        loginshellid name nchilds nthreads pcmdline pexe pexepath pgid pgid.exe pgid.exepath pgid.name pid
        pid.ts pidns_init_start_ts pname ppid ppid.duration ppid.ts pvpid sid sid.exe sid.exepath sname
        stderr.name stderr.type stdin.name stdin.type stdout.name stdout.type tty vmrss vmsize vmswap vpgid
        vpgid.exe vpgid.exepath vpgid.name vpid
    """,
    "s3": "bucket bytes bytes.in bytes.out cnt.get cnt.other cnt.put key uri",
    "salesforce": """
        acceptlanguage apitype apiversion application authmethodreference authserviceid browser ciphersuite city
        clientversion country countryiso createdbyid createddate currentip currentplatform currentscreen
        currentuseragent currentwindow delegatedorganizationid delegatedusername evaluationtime eventdate
        eventidentifier eventsource eventtype eventuuid hasexternalusers httpmethod impacteduserids
        loginascategory logingeoid loginhistoryid loginkey loginlatitude loginlongitude loginstatus loginsubtype
        logintype loginurl operation parentidlist parentnamelist permissionexpirationlist permissionlist
        permissiontype platform postalcode previousip previousplatform previousscreen previoususeragent
        previouswindow queriedentities relatedeventidentifier requestidentifier rowsprocessed score
        securityeventdata sessionkey sessionlevel sourceip subdivision summary targeturl tlsprotocol uri
        useragent usercount userid username usertype
    """,
    "syscall": "type",
    "thread": """
        cap_effective cap_inheritable cap_permitted cgroup[] cgroups cpu cpu.system cpu.user exectime ismain
        nametid pfmajor pfminor tid totexectime vmrss vmrss.b vmsize vmsize.b vtid
    """,
    "user": "homedir loginname loginuid name shell uid",
    "util": "cnt",
}

_NAMES: Final = [f"{prefix}.{name}" for prefix, names in _BY_PREFIX.items() for name in names.split()]
FIELDS: Final = frozenset(name.removesuffix("[]") for name in _NAMES)
WITH_ARGUMENT: Final = frozenset(name.removesuffix("[]") for name in _NAMES if name.endswith("[]"))
OPEN_PREFIXES: Final = ("falco.", "scap.")
"""Falco's own metrics: their names change with each release."""
